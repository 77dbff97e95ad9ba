"""A model of the PanDA server: the rules of one job as its workers see them, measured at the real one.

The first terminal report wins and waits in `holding` for the adder; what comes after hears `already`, what comes
after the end hears `kill` (tobekilled). A job without news is ended by the server's own watcher.
"""

from __future__ import annotations

from pilotwrap.run.effects import Report

SENT_S = 1800.0
RUNNING_S = 7200.0


class Server:
    __slots__ = ("adder_s", "kill", "modified", "report", "state", "why")

    def __init__(self, at: float, adder_s: float) -> None:
        self.state = "sent"
        self.modified = at
        self.adder_s = adder_s
        self.kill = False
        self.report: Report | None = None
        self.why = ""

    @property
    def ended(self) -> bool:
        return self.state in {"holding", "final"}

    def pass_time(self, at: float) -> None:
        quiet = at - self.modified
        if self.state == "sent" and quiet >= SENT_S:
            self.state, self.why = "final", "sent timeout"
        elif self.state in {"starting", "running"} and quiet >= RUNNING_S:
            self.state, self.why = "final", "lost heartbeat"
        elif self.state == "holding" and quiet >= self.adder_s:
            self.state = "final"

    def ask_kill(self, at: float) -> None:
        self.pass_time(at)
        if self.state == "sent":
            self.state, self.why = "final", "killed before it started"
        elif self.state in {"starting", "running"}:
            self.kill = True

    def update(self, at: float, to: str, report: Report | None) -> str:
        self.pass_time(at)
        if self.state == "final":
            return "kill"
        if to == "terminal":
            if self.state == "holding":
                return "already"
            self.state, self.report, self.why, self.modified = "holding", report, "told", at
            return "ok"
        if self.state == "holding":
            return "ok"
        if to != "starting" or self.state == "sent":
            self.state = "starting" if to == "starting" else "running"
        self.modified = at
        return "kill" if self.kill else "ok"
