"""`pilotwrap.doctor/1`: whether a node, a credential and a server are fit to take jobs; the answer of `doctor`."""

from typing import Literal

from pydantic import Field

from pilotwrap.model.base import Value
from pilotwrap.model.reasons import EXIT_CODES, Reason, exit_code_of


class Check(Value):
    """One thing that was looked at."""

    name: str
    ok: bool | None
    """None: not checked, or nobody can tell; `detail` says why."""

    detail: str
    remedy: str = ""
    """What to do, where possible as a line to paste."""

    reason: Reason = "ok"
    """Why a run would end here."""


class Readiness(Value):
    """All checks of one visit."""

    schema_: Literal["pilotwrap.doctor/1"] = Field(default="pilotwrap.doctor/1", alias="schema")
    safe: bool
    """No check failed; what was not checked does not count."""

    checks: tuple[Check, ...]

    @property
    def exit_code(self) -> int:
        """Return what `doctor` exits with: 0, or what the worst reason stands for."""
        return exit_code_of(EXIT_CODES[check.reason] for check in self.checks if check.ok is False)
