"""Which batch systems tell that they take an allocation back for another job, and how each is asked.

A new one is its own file's words and one line here; one that is not listed is never asked.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from pilotwrap.site.schedulers import slurm


class Question(NamedTuple):
    """A command for the host, and what its output means."""

    command: tuple[str, ...]
    says_so: Callable[[str], bool]


_ASKED: Mapping[str, Question] = {slurm.NAME: Question(slurm.PREEMPTION, slurm.preempted)}


def question(scheduler: str, job_id: str | None) -> Question | None:
    """Return how this batch system is asked whether this job was preempted; None: it cannot be."""
    asked = _ASKED.get(scheduler)
    if asked is None or job_id is None:
        return None
    return asked._replace(command=tuple(word.format(job_id=job_id) for word in asked.command))
