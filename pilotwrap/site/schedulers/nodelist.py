"""Node lists in brackets, as Slurm and Flux write them: `nid[001003-001004,001010],login1`."""

import itertools
import re
from collections.abc import Iterable, Iterator

MAX_NODES = 100_000
"""No allocation is larger; a list that names more is a mistake (the largest machine has about 10,600 nodes)."""

_GROUP = re.compile(r"\[([^][]*)\]")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def nodes_of(text: str) -> tuple[str, ...]:
    """Return the nodes that a list names, in its order; ValueError says which part cannot be read."""
    nodes = list(itertools.islice(_nodes(text), MAX_NODES + 1))
    if len(nodes) > MAX_NODES:
        raise ValueError(f"the list {text[:80]!r} names more than {MAX_NODES} nodes")
    return tuple(nodes)


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


def _nodes(text: str) -> Iterator[str]:
    for part in _split(text):
        pieces = _GROUP.split(part)
        choices = [_numbers(piece) if index % 2 else (piece,) for index, piece in enumerate(pieces)]
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


def _numbers(text: str) -> tuple[str, ...]:
    ranges = [_range(part, text) for part in text.split(",")]
    if sum(map(len, (numbers for _, numbers in ranges))) > MAX_NODES:
        raise ValueError(f"[{text[:80]}] names more than {MAX_NODES} nodes")
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
