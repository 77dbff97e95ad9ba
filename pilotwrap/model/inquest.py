"""What is known of a run's end: the answer of `why`."""

from pilotwrap.model.base import Value
from pilotwrap.model.reasons import Reason
from pilotwrap.model.report import JobReport


class Inquest(Value):
    """What is known of a run's end."""

    run_dir: str
    state: str
    """The report's state, or `running`, or `died`."""

    reason: Reason
    sentence: str
    remedy: str
    jobs: tuple[JobReport, ...] = ()
    last_words: dict[str, tuple[str, ...]] = {}
    """The last lines of the payload's stderr, by job."""

    unreported: tuple[str, ...] = ()
    """Jobs, PANDA_ID.ATTEMPT, whose end is not told yet."""

    events: dict[str, tuple[str, ...]] = {}
    """The last events of jobs that never ended, by job."""
