"""CPU lists as the kernel writes them: `0-3,8`."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, Set


def numbers(text: str, most: int = 1 << 20) -> "Set[int]":
    """Return the CPUs of a list; what is no list, or has one above `most`, is a `ValueError`."""
    found: "Set[int]" = set()
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            if int(last or first) > most:
                raise ValueError("no CPU has the number " + (last or first)[:20])
            found.update(range(int(first), int(last or first) + 1))
    return found


def written(cpus: "Iterable[int]") -> str:
    """Return the shortest list of these CPUs."""
    spans: "list[list[int]]" = []
    for cpu in sorted(set(cpus)):
        if spans and spans[-1][1] == cpu - 1:
            spans[-1][1] = cpu
        else:
            spans.append([cpu, cpu])
    return ",".join(str(a) if a == b else "%d-%d" % (a, b) for a, b in spans)
