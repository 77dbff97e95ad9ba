"""Node lists in brackets, as Slurm and Flux write them: `nid[001003-001004,001010],login1`."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence

from pilotwrap.model.job import MAX_NODES

_GROUP = re.compile(r"\[([^][]*)\]")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}")
_DIGITS = re.compile(r"([0-9]+)")
_FOLDED_DIGITS = 9
"""Longer numbers are left as they are; nobody's reader is sure to count so far."""


def nodes_of(text: str) -> tuple[str, ...]:
    """Return the nodes that a list names, in its order; ValueError says which part cannot be read."""
    nodes = list(itertools.islice(_nodes(text), MAX_NODES + 1))
    if len(nodes) > MAX_NODES:
        raise ValueError(f"the list {text[:80]!r} names more than {MAX_NODES} nodes")
    return tuple(nodes)


def folded(nodes: Iterable[str], *, inside: bool = False) -> str:
    """Return the list that `nodes_of` reads as these nodes, in order: neighbours that differ in one number share it.

    Slurm reads a word whose one bracket is its end (measured, 22.05); `inside`: names may go on behind it, as Flux
    reads them (RFC 29 and its tests).
    """
    groups: list[_Group] = []
    for node in nodes:
        pieces = _DIGITS.split(node)
        if not (groups and groups[-1].takes(pieces)):
            groups.append(_Group(pieces, inside=inside))
    return ",".join(map(str, groups))


def distinct(names: Iterable[str]) -> tuple[str, ...]:
    """Return nodes that are listed once a slot, each once, in their order; ValueError when one is no node's name."""
    nodes = tuple(dict.fromkeys(filter(None, map(str.strip, names))))
    bad = next((node for node in nodes if not _NAME.fullmatch(node)), None)
    if bad is not None:
        raise ValueError(f"{bad[:80]!r} is no node's name")
    return nodes


def as_listed(nodes: Iterable[str], host: str) -> str:
    """Return a host's name as the list has it: lists may hold long names where the host knows its short one."""
    short = host.partition(".")[0]
    return next((node for node in nodes if node == host or node.partition(".")[0] == short), host)


class _Group:
    """Names that differ in one number only; the pieces at odd places are their numbers."""

    def __init__(self, pieces: Sequence[str], *, inside: bool) -> None:
        self._first = pieces
        self._inside = inside
        self._at: int | None = None
        self._numbers: list[str] = []

    def takes(self, pieces: Sequence[str]) -> bool:
        """Add a name if it fits; tell whether it did."""
        at = self._place(pieces)
        if at is None or not (self._inside or "".join(pieces[at + 1 :]) == ""):
            return False
        if max(len(pieces[at]), len(self._first[at])) > _FOLDED_DIGITS:
            return False
        if self._at is None:
            self._at, self._numbers = at, [self._first[at]]
        self._numbers.append(pieces[at])
        return True

    def _place(self, pieces: Sequence[str]) -> int | None:
        """Return where the one number stands in which a name differs from the others; None: it differs elsewhere."""
        if len(pieces) != len(self._first) or len(self._numbers) == MAX_NODES:
            return None
        places = [at for at, (mine, its) in enumerate(zip(self._first, pieces, strict=True)) if mine != its]
        if len(places) > 1 or any(at % 2 == 0 or self._at not in {None, at} for at in places):
            return None
        return places[0] if places else self._at

    def __str__(self) -> str:
        """Return the names as one word of a list."""
        if self._at is None:
            return "".join(self._first)
        inside = f"[{','.join(_written(self._numbers))}]"
        return "".join((*self._first[: self._at], inside, *self._first[self._at + 1 :]))


def _written(numbers: Sequence[str]) -> Iterator[str]:
    """Yield numbers and ascending ranges of them, each as wide as its first."""
    first = last = numbers[0]
    for number in (*numbers[1:], ""):
        if number == str(int(last) + 1).zfill(len(first)):
            last = number
            continue
        yield first if first == last else f"{first}-{last}"
        first = last = number


def _nodes(text: str) -> Iterator[str]:
    for part in _split(text):
        pieces = _GROUP.split(part)
        groups = [_ranges(piece) for piece in pieces[1::2]]
        if math.prod(sum(len(numbers) for _, numbers in group) for group in groups) > MAX_NODES:
            raise ValueError(f"{part[:80]!r} names more than {MAX_NODES} nodes")
        choices = [(piece,) if index % 2 == 0 else _numbers(groups[index // 2]) for index, piece in enumerate(pieces)]
        for chosen in itertools.product(*choices):
            name = "".join(chosen)
            if not _NAME.fullmatch(name):
                raise ValueError(f"{part[:80]!r} is no node or group of nodes, as in nid[001-004,007]")
            yield name


def _split(text: str) -> Iterator[str]:
    """Split at the commas that stand outside of brackets."""
    depth, part = 0, ""
    for char in text.strip():
        depth += {"[": 1, "]": -1}.get(char, 0)
        if char == "," and depth == 0:
            yield part
            part = ""
        else:
            part += char
    if part:
        yield part


def _ranges(text: str) -> list[tuple[int, range]]:
    return [_range(part, text) for part in text.split(",")]


def _numbers(ranges: Iterable[tuple[int, range]]) -> tuple[str, ...]:
    return tuple(str(number).zfill(width) for width, numbers in ranges for number in numbers)


def _range(part: str, text: str) -> tuple[int, range]:
    """Return the width of the numbers, zeros included, and the numbers."""
    match = _RANGE.fullmatch(part)
    if not match:
        raise ValueError(f"[{text[:80]}] is no list of numbers, as in [001-004,007]")
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise ValueError(f"[{text[:80]}] is no list of ascending ranges")
    return len(match[1]), range(first, last + 1)
