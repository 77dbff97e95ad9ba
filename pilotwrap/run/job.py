"""One job in the driver's hands: its life's state, its plan, its ranks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pilotwrap.model.job import JobSpec
from pilotwrap.model.outcome import Outcome, RankOutcome
from pilotwrap.model.plan import Plan
from pilotwrap.plan.ledger import Allotment
from pilotwrap.run.state import NEVER, Rules, State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilotwrap.panda.answers import Json
    from pilotwrap.panda.job import PandaJob, UnrunnableJob

USAGE_NAME = "memory_monitor_summary.json"
"""What PanDA's pilot calls the resource use beside the payload's log."""

OWN_NAMES = frozenset({"stdout", "stderr", USAGE_NAME})
"""Files that we write into a job's directory: no input and no output of its may bear these names."""

OVERDUE_S = 60.0
"""How long after its wall time and its grace a payload's end may be on its way (a guess)."""


@dataclass
class Job:
    """What the driver knows of one attempt; `name` is ours and safe as a file's name."""

    name: str
    spec: JobSpec
    directory: Path
    state: State
    fetched: PandaJob | UnrunnableJob | None = None
    allotment: Allotment | None = None
    plan: Plan | None = None
    alive: set[str] = field(default_factory=set)
    """Spawns that were asked for and have not ended, by their ids on the wire."""

    holding: bool = False
    """Its share of the ledger is lent to it."""

    started: bool = False
    let_go: bool = False
    """Its processes are being ended because all is said; nobody waits for how they end."""

    ended: dict[str, RankOutcome] = field(default_factory=dict)
    outcome: Outcome | None = None
    wake_at: float | None = None
    entry: Mapping[str, Json] = field(default_factory=dict)
    """The fetched job as the server gave it."""

    parent: Job | None = None
    """The job of mode `driver` which asked for this one as its step."""

    env: Mapping[str, str] = field(default_factory=dict)
    """What its processes find in their environment besides."""

    said: dict[str, Json] = field(default_factory=dict)
    """What PanDA's own pilot has said of it, by update_job's names."""

    @property
    def panda_id(self) -> int | None:
        """Return the server's id; None for a job of a spec."""
        return self.fetched.panda_id if self.fetched else None

    @property
    def attempt_nr(self) -> int | None:
        """Return the server's number of this attempt."""
        return self.fetched.attempt_nr if self.fetched else None

    @property
    def host(self) -> str:
        """Return the first node of the job."""
        return self.allotment.hosts[0] if self.allotment else ""


def rules_for(spec: JobSpec, rules: Rules) -> Rules:
    """Return the run's rules for one job: a payload whose end is never seen is given up after its own wall time.

    Waiting for cores counts as staging, so that is not bounded here: a transfer has its own bound.
    """
    rules = rules._replace(stage_s=NEVER)
    if spec.walltime_s is None:
        return rules
    return rules._replace(run_s=spec.walltime_s + rules.grace_s + OVERDUE_S)


def path_url(path: str) -> str:
    """Return a path of this machine as a URL."""
    return Path(path).absolute().as_uri()


def rank_of(spawn_id: str) -> int | None:
    """Return the rank that a spawn's id names; None: the launcher's own."""
    rank = spawn_id.rpartition("/")[2]
    return int(rank) if rank.isdigit() else None
