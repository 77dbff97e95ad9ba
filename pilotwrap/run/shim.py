"""How the rank shim is started on any node: out of what the host part has compiled for this run, or as it stands."""

from __future__ import annotations

from pathlib import Path

from pilotwrap.model.node import NodeFacts
from pilotwrap.run.link import StarterLink
from pilotwrap.run.rundir import RunDirectory
from pilotwrap.site.listing import passed_on

COMPILED = "shim.py"
"""The program that `compile` of the host part leaves (host/compiled.py); its codes lie there before it does."""

COMPILE_S = 60.0
"""It takes 50 ms; a guess for a slow file system. Nobody waits for it."""


def begin_to_compile(head: NodeFacts, link: StarterLink, run: RunDirectory, host_argv: tuple[str, ...]) -> None:
    """Have the shim compiled by the Python that is going to run it, where there are several nodes; wait for nothing.

    On one node, whose files are near, its ranks' own time would be saved by spending as much on that before them.
    """
    if head.allocation.is_this_node:
        return
    order = {
        "do": "spawn",
        "id": "compile",
        "argv": [*host_argv, "compile", str(_folder(run))],
        "keep": list(passed_on()),
        "env": {},
        "cwd": str(run.path),
        "session": "new",
        "stdin": "null",
        "wall_s": COMPILE_S,
        "grace_s": 1.0,
    }
    link.send(order)


def shim_argv(run: RunDirectory, host_argv: tuple[str, ...], order: Path) -> tuple[str, ...]:
    """Return what a launcher starts once a rank, to do what this file says."""
    compiled = _folder(run) / COMPILED
    if compiled.exists():
        return (*host_argv[:-1], str(compiled), str(order))
    return (*host_argv, "shim", str(order))


def _folder(run: RunDirectory) -> Path:
    """Return where it lies: nobody but us may write there, and whoever a launcher runs as can enter it."""
    return run.path / "plans"
