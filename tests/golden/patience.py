"""hypothesis judges what a claim says, not how fast this machine is while other tests run beside it."""

from hypothesis import HealthCheck, settings

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
