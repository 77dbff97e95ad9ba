"""The survey: one step over all nodes of the allocation before any job is taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from pilotwrap.detect.node import node_facts
from pilotwrap.detect.survey import allocation_facts, allocation_of_all, allocation_of_one
from pilotwrap.model.allocation import AllocationFacts
from pilotwrap.model.errors import LauncherError
from pilotwrap.model.node import NodeFacts
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.run.link import LOST, Message, StarterLink
from pilotwrap.run.rundir import RunDirectory, write_file
from pilotwrap.site.launchers.listing import BINDING_OF_OTHERS, WIRING, launcher_named
from pilotwrap.site.launchers.request import LaunchRequest
from pilotwrap.site.listing import passed_on
from pilotwrap.site.schedulers.nodelist import as_listed

if TYPE_CHECKING:
    from pilotwrap.site.machines.choice import Choice

SURVEY_S = 60.0
"""A step over 1,000 nodes starts within it (srun's own start on Frontier takes some 10 s at full scale, reported)."""


STOP_GRACE_S = 1.0
"""After TERM srun ends its step on every node within 10 ms (measured); KILL would leave that to nobody."""

STEP = "survey"
"""What the step is called on the wire."""


def facts_of(snapshot: Snapshot, choice: Choice | None) -> NodeFacts:
    """Return what a node is, as one of the machine that the user chose for it, if he did."""
    return node_facts(snapshot, choice.of(snapshot) if choice else None)


def surveyed(
    head: NodeFacts, link: StarterLink, run: RunDirectory, host_argv: tuple[str, ...], choice: Choice | None = None
) -> AllocationFacts:
    """Return the facts of all nodes; a single one needs no survey. Raises LauncherError when no step can be started."""
    nodes = head.allocation.nodes
    if len(nodes) == 1 and head.allocation.on_node:
        return allocation_of_one(head)
    kind = launcher_named(head.launcher.command, head.launcher.flavour)
    if kind is None or head.launcher.path is None:
        raise LauncherError(
            f"{len(nodes)} nodes cannot be surveyed", why="no launcher is on PATH", remedy="load the site's module"
        )
    answers = run.path / "survey"
    answers.mkdir(mode=0o700)
    request = LaunchRequest(
        program=head.launcher.path,
        hosts=nodes,
        hosts_file=str(run.path / f"{STEP}.hosts"),
        ranks_per_node=1,
        one_fails_all=False,
        gpus_per_node=head.allocation.gpus_per_node,
        here=head.host,
        command=(*host_argv, "observe", "--into", str(answers)),
    )
    launch = kind.command(request)
    for path, text in launch.files.items():
        write_file(Path(path), text)
    unset = [*launch.unset, *WIRING, *BINDING_OF_OTHERS]
    step = {"argv": list(launch.argv), "env": launch.env, "unset": unset, "keep": list(passed_on())}
    stop = _step(link, run, step)
    if stop is not None:
        # nothing will run on them
        link.put_back(stop)
        return allocation_of_all(head)
    found = {as_listed(nodes, host): facts for host, facts in _answers(answers, choice)}
    return allocation_facts(head, {host: found.get(host) for host in nodes})


def _step(link: StarterLink, run: RunDirectory, launch: Message) -> Message | None:
    """Run the step to its end; a node that does not answer is found missing by what it did not write.

    Return the word that the run has to end, if it came meanwhile. Raises LauncherError when there is no step.
    """
    link.send(_order(run, launch))
    stop: Message | None = None
    while True:
        said = link.read()
        if said is LOST:
            return stop
        kind, ours = said.get("event"), said.get("id") == STEP
        if kind == "stop":
            stop = said
            link.send({"do": "signal", "id": STEP, "signal": 15, "grace_s": STOP_GRACE_S})
        elif kind == "failed" and ours:
            raise LauncherError("the survey cannot be started", why=str(said.get("text")))
        elif kind == "exited" and ours:
            return stop


def _order(run: RunDirectory, launch: Message) -> Message:
    """Return the order for the step; the starter ends it at its time."""
    return {
        **launch,
        "do": "spawn",
        "id": STEP,
        "cwd": str(run.path),
        "session": "new",
        "stdin": "null",
        "stdout": str(run.path / "survey.out"),
        "stderr": str(run.path / "survey.out"),
        "output_cap": 1024 * 1024,
        "wall_s": SURVEY_S,
        "grace_s": 2.0,
    }


def _answers(folder: Path, choice: Choice | None) -> Iterator[tuple[str, NodeFacts]]:
    for path in sorted(folder.glob("*.json")):
        try:
            facts = facts_of(Snapshot.model_validate_json(path.read_bytes()), choice)
        except (OSError, ValidationError):
            continue
        yield facts.host, facts
