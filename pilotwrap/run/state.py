"""Where a job's life stands: an immutable value, with the rules that it lives by.

Named tuples, not dataclasses: a step replaces a few of some twenty fields, and a tuple does that three times faster.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from pilotwrap.model.plan import Teller
from pilotwrap.model.reasons import Reason
from pilotwrap.run.effects import EndState, Report
from pilotwrap.run.events import StopReason

NEVER: Final = 1e15
"""Later than any monotonic clock shows; a plain number, so that a state is plain JSON."""

Phase = Literal[
    "new",
    "recording",
    "staging-in",
    "spawning",
    "running",
    "ending",
    "staging-out",
    "spooling",
    "telling",
    "done",
]

SpoolState = Literal["none", "kept", "failed"]
"""none: nothing was to be written, or it is not there yet; kept: fsynced; failed: the disk refused it."""


class Rules(NamedTuple):
    """What differs between runs; seconds. Defaults without a source are guesses, and say so."""

    told_by: Teller = "panda"
    heartbeat_s: float = 600.0
    """The server gives a running job up after two hours (FACTS of PanDA's watcher); a kill is seen only by asking."""

    answer_s: float = 120.0
    """A send without an answer for so long is lost (guess: twice a client's read timeout)."""

    retry_s: float = 5.0
    """The first pause after a send that failed; doubled each time (guess)."""

    retry_max_s: float = 300.0
    """The longest such pause (guess)."""

    jitter: float = 0.5
    """In [0, 1), another for each life: spreads the retries of many nodes."""

    give_up_s: float = 1800.0
    """Told in vain for so long, a report is left to `flush` (guess: a node is worth more than the wait)."""

    record_s: float = 120.0
    spool_s: float = 300.0
    """A disk that hangs for longer counts as failed (guess: a failover of a parallel file system takes minutes)."""

    stage_s: float = 6 * 3600.0
    """The longest stage-in, and the longest stage-out (guess)."""

    spawn_s: float = 600.0
    """The longest way from Spawn to Started: a launcher that waits for its nodes, an image that is unpacked (guess)."""

    run_s: float = NEVER
    """The job's own limit and a margin: whoever ends a job at its limit has failed to, or its Exited was lost."""

    grace_s: float = 30.0
    """TERM to KILL where nothing presses: what Slurm gives by default (KillWait)."""

    reap_s: float = 15.0
    """KILL to Exited, and a lost starter to the end of its lifelines, at most (guess)."""

    log_s: float = 5.0
    """Kept for the log within a stop's budget."""

    tell_s: float = 5.0
    """Kept for the spool and the server's answer within a stop's budget."""

    blink_s: float = 1.0
    """What a disk and a KILL are given even when the budget is gone (guess)."""


class Verdict(NamedTuple):
    """How the job ended, as far as is known."""

    state: EndState
    reason: Reason
    exit_code: int | None = None
    detail: str = ""


class Talk(NamedTuple):
    """The talk with the server: at most one send is waited for."""

    number: int = 0
    """Serial of the last send."""

    waiting: int = 0
    """Serial of the send whose answer is awaited; 0: none."""

    waiting_until: float = NEVER
    next_at: float = NEVER
    """When the next send is due, unless one is awaited."""

    tries: int = 0
    """Sends that failed since the last answer."""

    refusals: int = 0
    terminal_from: int = 0
    """Serial of the first terminal send; 0: none yet."""


class State(NamedTuple):
    """One attempt of one job."""

    rules: Rules = Rules()
    phase: Phase = "new"
    at: float = 0.0
    deadline: float = NEVER
    """When the phase is given up."""

    verdict: Verdict | None = None
    report: Report | None = None
    """Fixed on the way into the spool; nothing changes it after."""

    started_at: float | None = None
    ended_at: float | None = None
    kill_at: float = NEVER
    """When the starter's KILL falls; NEVER: not signalled."""

    starter_lost: bool = False
    stop: StopReason | None = None
    stop_at: float = NEVER
    """When we are killed."""

    spool: SpoolState = "none"
    talk: Talk = Talk()
    wake: float = NEVER
