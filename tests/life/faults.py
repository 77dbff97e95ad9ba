"""What goes wrong in one life, drawn from its seed: most lives have one or two troubles, some none, a few all."""

from __future__ import annotations

from random import Random

from pilotwrap.run.state import NEVER, Rules

STEADY = Rules(
    heartbeat_s=400.0,
    answer_s=60.0,
    retry_max_s=120.0,
    give_up_s=900.0,
    stage_s=3000.0,
    spawn_s=300.0,
    spool_s=120.0,
    record_s=60.0,
    run_s=9000.0,
)

HURRIED = STEADY._replace(grace_s=10.0, reap_s=5.0, log_s=1.0, tell_s=2.0)
"""As where the batch system leaves a job five seconds."""


class Faults:
    """The plan of one life's troubles; probabilities are per occasion, times are from the life's begin."""

    def __init__(self, rng: Random) -> None:
        r = rng.random
        self.caller = r() < 0.06
        self.rules = STEADY if r() < 0.5 else HURRIED
        # A third of the lives have no such trouble: of these the machine owes the most.
        calm = r() < 0.33
        self.lost_requests = 0.3 * r() if r() < 0.35 else 0.0
        self.lost_answers = 0.3 * r() if r() < 0.35 else 0.0
        self.repeats = 0.3 * r() if r() < 0.25 else 0.0
        self.lies = 0.3 * r() if r() < 0.25 else 0.0
        self.outage = window(rng, 0.25, 3000.0)
        self.disk_full = window(rng, 0.2, 3000.0)
        self.lost_events = 0.05 if r() < 0.12 else 0.0
        self.false_events = 0.15 if r() < 0.2 else 0.0
        self.slow = r() < 0.15
        if calm:
            self.lost_requests = self.lost_answers = self.repeats = self.lies = self.lost_events = 0.0
            self.outage = self.disk_full = NEVER, NEVER
            self.slow = False
        self.payload_s = 4000.0 * r() ** 4 + 0.01
        self.stage_s = 4500.0 if r() < 0.02 else 600.0 * r() ** 4
        self.dies_at_step = int(30 * r() ** 2) if r() < 0.2 else -1
        self.stage_out_s = 600.0 * r() if r() < 0.25 else 20.0 * r()
        span = self.payload_s + self.stage_s + self.stage_out_s
        self.controller_dies = span * 1.2 * r() if r() < 0.08 else NEVER
        self.starter_dies = span * 1.2 * r() if r() < 0.1 else NEVER
        self.node_dies = span * 1.2 * r() if r() < 0.06 else NEVER
        self.stop_at = span * 1.3 * r() if r() < 0.3 else NEVER
        self.budget_s = rng.choice((0.0, 5.0, 5.0, 10.0, 30.0, 30.0, 120.0, 600.0))
        self.kill_at = span * 1.2 * r() if r() < 0.2 else NEVER
        self.freeze = window(rng, 0.08, span + 100.0)
        self.quick_refusals = r() < 0.5
        self.ignores_term = r() < 0.3

    @property
    def steady(self) -> bool:
        """Tell whether network, disk, driver and starter all answer: then the machine owes its best."""
        return not (
            self.lost_requests
            or self.lost_answers
            or self.lies
            or self.lost_events
            or self.slow
            or self.outage[0] < NEVER
            or self.disk_full[0] < NEVER
            or self.freeze[0] < NEVER
        )

    @property
    def budget_fair(self) -> bool:
        """Tell whether a stop leaves enough for the payload's end and the report."""
        return self.budget_s >= 2.0 * self.rules.tell_s

    @property
    def disk_good(self) -> bool:
        """Tell whether what is written is on the disk soon, and said so."""
        return self.disk_full[0] >= NEVER and self.freeze[0] >= NEVER and not (self.lost_events or self.slow)


def window(rng: Random, chance: float, span: float) -> tuple[float, float]:
    """Return (from, until) of a trouble, or (NEVER, NEVER)."""
    if rng.random() >= chance:
        return NEVER, NEVER
    begin = span * rng.random() ** 3
    return begin, begin + 12000.0 * rng.random() ** 4
