"""All that the site's files want looked at: the data that is packed into the starter."""

from pilotwrap.site import basis
from pilotwrap.site.accelerators import vendors
from pilotwrap.site.launchers.listing import LAUNCHERS
from pilotwrap.site.looks import Looks, union
from pilotwrap.site.runtimes import listing as runtimes
from pilotwrap.site.schedulers.listing import SCHEDULERS


def all_looks() -> Looks:
    """Return what the starter looks at."""
    return union(
        (
            basis.LOOKS,
            vendors.LOOKS,
            runtimes.LOOKS,
            *(scheduler.LOOKS for scheduler in SCHEDULERS),
            *(launcher.LOOKS for launcher in LAUNCHERS),
        )
    )


def passed_on() -> tuple[str, ...]:
    """Return the patterns of inherited names that every payload gets."""
    owned = {name for scheduler in SCHEDULERS for name in scheduler.PASSED_ON}
    owned |= {name for launcher in LAUNCHERS for name in launcher.PASSED_ON}
    return (*basis.PASSED_ON, *sorted(owned))
