"""What the end of a process means: the starter's word on each rank to a reason."""

from collections.abc import Mapping, Sequence
from typing import Any

from pilotwrap.model.outcome import Outcome, RankOutcome, Usage
from pilotwrap.model.reasons import EXIT_CODES, Reason

SHIM_MISMATCH_EXIT = 121
"""The rank shim's own exit when CPUs or devices are not those promised (docs/wire.md)."""

_NOT_AS_PROMISED = "ENODEV"
"""The starter's word for CPUs or devices that are not those promised (docs/wire.md)."""

_NOT_THERE = frozenset({"ENOENT", "EACCES", "ENOEXEC", "ENOTDIR", "ELOOP", "ENAMETOOLONG", "E2BIG"})
"""Errors of execve(2) that are the command's fault; any other is the node's."""


def rank_outcome(rank: int | None, host: str, exited: Mapping[str, Any]) -> RankOutcome:
    """Return what the starter's `exited` means for one rank (None: the launcher)."""
    code, signal = exited.get("exit_code"), exited.get("signal")
    reason, detail = _judged(exited)
    used = exited.get("usage") or {}
    return RankOutcome(
        rank=rank,
        host=host,
        exit_code=code if code is not None else 128 + signal if signal else None,
        signal=signal,
        reason=reason,
        detail=detail,
        started_at=used.get("started_at"),
        usage=Usage(
            wall_s=used.get("wall_s", 0.0),
            user_s=used.get("user_s", 0.0),
            system_s=used.get("system_s", 0.0),
            max_rss_kib=used.get("max_rss_kib", 0),
        ),
        left=exited.get("left") or 0,
    )


def _judged(exited: Mapping[str, Any]) -> tuple[Reason, str]:
    code, signal = exited.get("exit_code"), exited.get("signal")
    if exited.get("timed_out"):
        return "walltime", "the payload reached its wall-time limit and was ended"
    if signal:
        return "payload-signal", f"the payload was ended by signal {signal}"
    if code == SHIM_MISMATCH_EXIT:
        return "binding", "a rank did not get the CPUs or devices that it was promised"
    return ("ok", "") if code == 0 else ("payload-exit", f"the payload exited with code {code}")


def spawn_failure(failed: Mapping[str, Any]) -> tuple[Reason, str]:
    """Return the reason and a sentence for the starter's `failed`."""
    errno, what = failed.get("errno", "?"), failed.get("what", "start the payload")
    if errno in _NOT_THERE:
        detail = f"cannot {what}: {failed.get('text', errno)}; check the command's spelling, or load what provides it"
        return "bad-input", detail
    if errno == _NOT_AS_PROMISED:
        return "binding", f"cannot {what}"
    return "node-unusable", f"cannot {what}: {failed.get('text', errno)}"


def outcome(ranks: Sequence[RankOutcome], shim_results: Sequence[RankOutcome] = ()) -> Outcome:
    """Return how the attempt ended: by its worst rank; a launcher that fails by itself is the worst."""
    told = [*shim_results, *ranks]
    judged = [rank for rank in told if not _only_repeats(rank)] if shim_results else told
    worst = max(judged, key=_weight)
    if _only_repeats(ranks[0]) and not shim_results:
        code = ranks[0].exit_code
        worst = ranks[0].model_copy(update={"detail": f"the launcher ended with code {code}; see its stderr"})
    return Outcome(
        reason=worst.reason,
        exit_code=worst.exit_code,
        ranks=tuple(told),
        detail=worst.detail + (_place(worst) if worst.detail and len(told) > 1 else ""),
        usage=_together([rank.usage for rank in ranks]),
    )


def _only_repeats(rank: RankOutcome) -> bool:
    """Tell whether this is a launcher's own code for what its ranks said: some say 143 for any of them (PALS)."""
    return rank.rank is None and rank.reason == "payload-exit"


def _place(rank: RankOutcome) -> str:
    return "" if rank.rank is None else f" (rank {rank.rank} on {rank.host})"


def _together(used: Sequence[Usage]) -> Usage:
    """Return what ranks that ran side by side have used: the longest time, all of the CPU's, the largest of them."""
    return Usage(
        wall_s=max(usage.wall_s for usage in used),
        user_s=sum(usage.user_s for usage in used),
        system_s=sum(usage.system_s for usage in used),
        max_rss_kib=max(usage.max_rss_kib for usage in used),
    )


def _weight(rank: RankOutcome) -> tuple[bool, int, int]:
    """Return how much a rank says about its job's end: one that a peer's end has ended says nothing of its own."""
    return not (rank.ended_by or rank.reason == "ok"), _severity(rank.reason), rank.exit_code or 0


def _severity(reason: Reason) -> int:
    """Return how much a rank's end weighs: a node's fault explains its peers' ends, a signal's explains an exit."""
    order = {"ok": 0, "payload-exit": 2, "payload-signal": 1, "walltime": 3}
    return order.get(reason, 4 + EXIT_CODES[reason])
