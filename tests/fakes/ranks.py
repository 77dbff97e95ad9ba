"""What all fake launchers do once their words are understood: start the ranks here, pass signals, and end as one.

A fake stands for a program that cannot be had: it takes the options that the real one's manual has and refuses all
others in its words. Each writes its call as one JSON line to the file that FAKE_CALLS names.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

CALLS = "FAKE_CALLS"
DEAD = "FAKE_DEAD"
"""Names the node on which nothing starts."""

TEARDOWN_S = 5.0
"""Between TERM and KILL of the ranks that are left (Flux's 5 s; the others do not say)."""


@dataclass(frozen=True)
class Rank:
    number: int
    local: int
    host: str
    env: Mapping[str, str]


def refuse(text: str, code: int) -> NoReturn:
    """End as the real program does when it does not like its words."""
    sys.stderr.write(text.rstrip("\n") + "\n")
    sys.exit(code)


def block(hosts: Sequence[str], each: int, env: Callable[[int, int, int, int], Mapping[str, str]]) -> list[Rank]:
    """Return so many ranks a host, one host after the other; `env` is asked for (rank, local, size, node)."""
    size = len(hosts) * each
    return [
        Rank(node * each + local, local, host, env(node * each + local, local, size, node))
        for node, host in enumerate(hosts)
        for local in range(each)
    ]


def record(program: str, ranks: Sequence[Rank]) -> None:
    """Write the call down."""
    said = {"program": program, "argv": sys.argv[1:], "env": dict(os.environ)}
    said["ranks"] = [[rank.number, rank.local, rank.host] for rank in ranks]
    path = os.environ.get(CALLS)
    if path:
        with Path(path).open("a") as file:
            file.write(json.dumps(said) + "\n")


class Application:
    """The ranks of one call."""

    def __init__(self, program: str, ranks: Sequence[Rank], argv: Sequence[str], forwarded: Sequence[int]) -> None:
        record(program, ranks)
        self.ended_by_us = False
        self.codes: dict[int, int] = {}
        for number in forwarded:
            signal.signal(number, self._forward)
        self.processes = {rank.number: _start(rank, argv) for rank in ranks}

    def wait(self, *, one_fails_all: bool) -> int:
        """Wait for all and return the highest code, 128 + N for a signal."""
        left = {process.pid: number for number, process in self.processes.items()}
        while left:
            pid, status = os.wait()
            number = left.pop(pid, None)
            if number is None:
                continue
            code = os.waitstatus_to_exitcode(status)
            self.codes[number] = 128 - code if code < 0 else code
            if code and one_fails_all and not self.ended_by_us:
                self._end(left)
        return max(self.codes.values())

    def _end(self, left: Mapping[int, int]) -> None:
        self.ended_by_us = True
        for pid in left:
            os.kill(pid, signal.SIGTERM)

        def kill(*_: object) -> None:
            for number, process in self.processes.items():
                if number not in self.codes:
                    os.kill(process.pid, signal.SIGKILL)

        signal.signal(signal.SIGALRM, kill)
        signal.setitimer(signal.ITIMER_REAL, TEARDOWN_S)

    def _forward(self, number: int, _frame: object) -> None:
        for rank, process in self.processes.items():
            if rank not in self.codes:
                os.kill(process.pid, number)


def _start(rank: Rank, argv: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start a rank in a session of its own, as a daemon on its node would, and where we may under its host's name."""
    named = ["unshare", "--uts", "sh", "-c", 'hostname "$0"; exec "$@"', rank.host] if os.geteuid() == 0 else []
    env = {**{name: value for name, value in os.environ.items() if not name.startswith("FAKE_")}, **rank.env}
    if rank.host == os.environ.get(DEAD):
        argv = ("false",)
    stdin = None if rank.number == 0 else subprocess.DEVNULL
    return subprocess.Popen([*named, *argv], env=env, stdin=stdin, start_new_session=True)
