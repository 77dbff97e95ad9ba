# ruff: noqa: INP001, T201 - it stands alone, and prints
"""A workflow's driver, started by `pilotwrap run --spec examples/driver.json`: it starts steps on its job's nodes."""

from __future__ import annotations

import json
import os
import socket


class Steps:
    """Asks for steps and hears of them: PILOTWRAP_STEPS names a socket on which every line is a JSON object."""

    def __init__(self) -> None:
        line = socket.socket(socket.AF_UNIX)
        line.connect(os.environ["PILOTWRAP_STEPS"])
        self.said, self.asked = line.makefile("r"), line.makefile("w")
        self.here = self.hear()

    def ask(self, name: str, **shape: object) -> None:
        """Ask for a step of this name; the other words are those of a job's spec."""
        print(json.dumps({"do": "step", "id": name, **shape}), file=self.asked, flush=True)

    def hear(self) -> dict[str, object]:
        """Wait for the next word."""
        return dict(json.loads(self.said.readline()))


if __name__ == "__main__":
    steps, left = Steps(), 4
    for number in range(left):
        steps.ask(f"step-{number}", command=["hostname"], cpus_per_rank=1)
    while left:
        word = steps.hear()
        print(word)
        left -= word["event"] in {"ended", "refused"}
