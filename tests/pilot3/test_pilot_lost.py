"""What a pilot's log shows of a job that it will say nothing more about."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from pilotwrap.run.pilot3.watch import SETTLED_S, Watch

if TYPE_CHECKING:
    from pathlib import Path

AT = "2026-11-21 08:00:00,000 | "
JOB = f"{AT}INFO     | received job: 7 (sleep until the job has finished)"
PAYLOAD = f"{AT}INFO     | started -- pid=42"
DISK = f"{AT}WARNING  | too little space left on local disk to run job: 5 B (need > 2147483648 B)"
LEADER = f"{AT}WARNING  | thread 'validate' received an exception from bucket: [Errno 1] Operation not permitted"
DIED = f"{AT}WARNING  | thread 'retrieve' received an exception from bucket: 'key'"
FAILED = f"{AT}INFO     | preparing for final server update for job 7 in state='failed'"
FINISHED = f"{AT}INFO     | preparing for final server update for job 7 in state='finished'"


@pytest.mark.parametrize(
    ("lines", "lost"),
    [
        ([JOB, LEADER], True),
        ([DISK], True),
        ([DIED], True),
        ([JOB, DIED], True),
        ([JOB, PAYLOAD, FAILED], True),
        ([JOB, DISK], False),
        ([JOB, PAYLOAD, DIED], False),
        ([JOB, PAYLOAD, FINISHED], False),
        ([JOB, PAYLOAD], False),
    ],
)
def test_a_job_that_is_lost_or_failed_is_waited_for_a_few_seconds_only(
    tmp_path: Path, lines: list[str], *, lost: bool
) -> None:
    log = tmp_path / "stdout"
    watch = Watch(log, time.monotonic())
    log.write_text("".join(f"{line}\n" for line in lines))
    read_at = time.monotonic()
    watch.read()
    assert not watch.lingers(read_at)
    assert watch.lingers(time.monotonic() + SETTLED_S) == lost
