"""ONEAPI_DEVICE_SELECTOR, as far as it is about GPUs of Level Zero and OpenCL (DPC++'s EnvironmentVariables.md).

`BACKEND:DEVICES` terms, separated by `;`; DEVICES are `*`, `gpu`, `cpu`, `fpga`, numbers, and `N.TILE`, `N.*`, `*.*`
for parts; a term that begins with `!` takes away. Case does not count.
"""

from collections.abc import Iterator, Sequence
from itertools import chain

from pilotwrap.model.node import Accelerator
from pilotwrap.site.digits import number_of

_Roots = Sequence[Sequence[Accelerator]]


def selected(text: str, roots: _Roots) -> list[Accelerator]:
    """Return the devices that a selector leaves; what cannot be read ends a SYCL program, so it leaves none."""
    terms = [term.strip().lower() for term in text.split(";") if term.strip()]
    if not all(":" in term for term in terms):
        return []
    taken_away = [term[1:] for term in terms if term.startswith("!")]
    kept = _all_named([term for term in terms if not term.startswith("!")] or ["*:*"], roots)
    gone = _all_named(taken_away, roots)
    return [device for device in chain(*roots) if device in kept and device not in gone]


def _all_named(terms: Sequence[str], roots: _Roots) -> list[Accelerator]:
    return [device for term in terms for device in _named(term, roots)]


def _named(term: str, roots: _Roots) -> Iterator[Accelerator]:
    backend, _, listed = term.partition(":")
    for word in listed.split(","):
        if word in {"*", "gpu"} and backend in {"*", "level_zero", "opencl"}:
            yield from (device for root in roots for device in root)
        elif backend in {"*", "level_zero"}:  # OpenCL's numbers count processors, too
            yield from _numbered(word, roots)


def _numbered(word: str, roots: _Roots) -> Iterator[Accelerator]:
    """Yield what `N`, `N.TILE`, or either with `*` in place of a number, names."""
    number, dot, tile = word.strip().partition(".")
    for index, root in enumerate(roots):
        if number != "*" and number_of(number) != index:
            continue
        for place, device in enumerate(root):
            if (dot and tile in {"*", str(place)}) or (not dot and number != "*"):
                yield device
