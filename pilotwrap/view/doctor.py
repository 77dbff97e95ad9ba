"""Readiness for people."""

from pilotwrap.model.readiness import Check, Readiness

_MARKS = {True: "ok", False: "no", None: "? "}


def told(readiness: Readiness) -> str:
    """Return one line a check, what to do below it, and the verdict at the end."""
    verdict = "yes" if readiness.safe else "no"
    return "".join(map(_lines, readiness.checks)) + f"safe to take jobs: {verdict}\n"


def _lines(check: Check) -> str:
    line = f"{_MARKS[check.ok]}  {check.name:<11} {_one_line(check.detail)}\n"
    return line + (f"{'':<15} -> {_one_line(check.remedy)}\n" if check.remedy else "")


def _one_line(text: str) -> str:
    return " ".join(text.split())
