"""CPU lists as the kernel writes them: `0-3,8,10-11`."""

from collections.abc import Iterable, Iterator

MAX_CPU = 65_535
"""No machine has more; a list that names more is a mistake, not a machine (a guess with room to spare)."""


def cpus_of(text: str) -> tuple[int, ...]:
    """Return the CPUs of a list, ascending, each once; ValueError names the part that is no CPU list."""
    found: list[int] = []
    for begin, end in sorted({_range(part) for part in map(str.strip, text.split(",")) if part}):
        found.extend(range(max(begin, found[-1] + 1 if found else 0), end + 1))
    return tuple(found)


def cpu_list(cpus: Iterable[int]) -> str:
    """Return the shortest list that names these CPUs."""
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in _runs(sorted(set(cpus))))


def _range(part: str) -> tuple[int, int]:
    first, dash, last = part.partition("-")
    if not _is_number(first) or (dash and not _is_number(last)):
        raise ValueError(f"{part[:80]!r} is no CPU or range of CPUs, as in 0-3,8")
    begin, end = int(first), int(last) if dash else int(first)
    if end < begin or end > MAX_CPU:
        raise ValueError(f"{part!r} is no range of CPUs: it must ascend and stay below {MAX_CPU}")
    return begin, end


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 7  # noqa: PLR2004 - longer than any MAX_CPU


def _runs(cpus: list[int]) -> Iterator[tuple[int, int]]:
    start = 0
    for index in range(1, len(cpus) + 1):
        if index == len(cpus) or cpus[index] != cpus[index - 1] + 1:
            yield cpus[start], cpus[index - 1]
            start = index
