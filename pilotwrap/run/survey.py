"""The survey: one step over all nodes of the allocation before any job is taken."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from pilotwrap.detect.node import node_facts
from pilotwrap.detect.survey import allocation_facts, allocation_of_all, allocation_of_one, as_heard, both
from pilotwrap.model.allocation import AllocationFacts
from pilotwrap.model.errors import LauncherError
from pilotwrap.model.node import NodeFacts
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.run.link import LOST, Message, StarterLink
from pilotwrap.run.rundir import RunDirectory, write_file
from pilotwrap.site.accelerators.vendors import asks_nvml
from pilotwrap.site.launchers.listing import BINDING_OF_OTHERS, WIRING, launcher_named
from pilotwrap.site.launchers.request import LaunchRequest
from pilotwrap.site.listing import passed_on
from pilotwrap.site.schedulers.nodelist import as_listed

if TYPE_CHECKING:
    from pilotwrap.model.plan import Launch
    from pilotwrap.site.machines.choice import Choice

SURVEY_S = 60.0
"""A step over 1,000 nodes starts within it (srun's own start on Frontier takes some 10 s at full scale, reported)."""


STOP_GRACE_S = 1.0
"""After TERM srun ends its step on every node within 10 ms (measured); KILL would leave that to nobody."""

STEP = "survey"
"""What the step is called on the wire."""

PROBE_S = 30.0
"""What a node's probe gets where nobody has said anything else, as on the head."""

ENTER_S = 10.0
"""What the way into the image may take beside it, or this program's own start from a slow file system (a guess)."""

ENTERING = (
    *("APPTAINER*", "SINGULARITY*", "CH_*", "SHIFTER*", "DOCKER_*", "PODMAN_*", "CONTAINERS_*", "NVIDIA_*", "PYTHON*"),
)
"""What a way into an image, or a Python, reads besides what every payload gets; secrets never pass."""


class Probe(NamedTuple):
    """What asks the vendor's library about a node."""

    argv: tuple[str, ...]
    cwd: str
    """Where the caller stood: the way into the image may be written as seen from there."""

    deadline_s: float

    @property
    def seconds(self) -> float:
        """Return how long a node waits for its answer."""
        return self.deadline_s + ENTER_S


class Question(NamedTuple):
    """What a survey asks besides what a node's files tell, and how it understands them."""

    choice: Choice | None = None
    probe: Probe | None = None


def probe_of(snapshot: Snapshot, head: NodeFacts, hello: Message) -> Probe | None:
    """Return what asks NVML on a node, in the image as here; None where the head has no NVIDIA devices.

    A head that is on none of the nodes cannot know; each of them starts it only where it shows such devices.
    """
    if head.allocation.on_node and not asks_nvml(snapshot):
        return None
    try:
        deadline_s = float(snapshot.variables.get("PILOTWRAP_PROBE_TIMEOUT", PROBE_S))
    except ValueError:
        # a head that asks NVML itself has refused it by now
        deadline_s = PROBE_S
    enter = [str(word) for word in hello["enter"]]
    argv = (*enter, sys.executable, "-m", "pilotwrap.probe", str(deadline_s))
    return Probe(argv, str(hello["cwd"]), deadline_s)


def facts_of(snapshot: Snapshot, choice: Choice | None) -> NodeFacts:
    """Return what a node is, as one of the machine that the user chose for it, if he did."""
    return node_facts(snapshot, choice.of(snapshot) if choice else None)


def surveyed(
    head: NodeFacts,
    link: StarterLink,
    run: RunDirectory,
    host_argv: tuple[str, ...],
    question: Question = Question(),  # noqa: B008 - frozen
) -> AllocationFacts:
    """Return the facts of all nodes; a single one needs no survey. Raises LauncherError when no step can be started."""
    nodes = head.allocation.nodes
    if len(nodes) == 1 and head.allocation.on_node:
        return allocation_of_one(head)
    answers = run.path / "survey"
    launch = _launch(head, run, (*host_argv, "observe", *_asking(run, question.probe), "--into", str(answers)))
    answers.mkdir(mode=0o700)
    stop = _step(link, _order(run, launch, question.probe))
    if stop is not None:
        # nothing will run on them
        link.put_back(stop)
        return allocation_of_all(head)
    found = {as_listed(nodes, host): facts for host, facts in _answers(answers, question, head.host)}
    return allocation_facts(head, {host: found.get(host) for host in nodes})


def _asking(run: RunDirectory, probe: Probe | None) -> list[str]:
    """Write down how a node starts the probe, and return the words that name the file."""
    if probe is None:
        return []
    path = run.path / f"{STEP}.probe.json"
    write_file(path, json.dumps({"argv": probe.argv, "cwd": probe.cwd, "seconds": probe.seconds}))
    return ["--probe", str(path)]


def _launch(head: NodeFacts, run: RunDirectory, command: tuple[str, ...]) -> Launch:
    """Return the launch of one process on each node; raises LauncherError where there is no launcher."""
    nodes = head.allocation.nodes
    kind = launcher_named(head.launcher.command, head.launcher.flavour)
    if kind is None or head.launcher.path is None:
        raise LauncherError(
            f"{len(nodes)} nodes cannot be surveyed", why="no launcher is on PATH", remedy="load the site's module"
        )
    request = LaunchRequest(
        program=head.launcher.path,
        hosts=nodes,
        hosts_file=str(run.path / f"{STEP}.hosts"),
        ranks_per_node=1,
        one_fails_all=False,
        gpus_per_node=head.allocation.gpus_per_node,
        here=head.host,
        command=command,
    )
    launch = kind.command(request)
    for path, text in launch.files.items():
        write_file(Path(path), text)
    return launch


def _step(link: StarterLink, order: Message) -> Message | None:
    """Run the step to its end; a node that does not answer is found missing by what it did not write.

    Return the word that the run has to end, if it came meanwhile. Raises LauncherError when there is no step.
    """
    link.send(order)
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


def _order(run: RunDirectory, launch: Launch, probe: Probe | None) -> Message:
    """Return the order for the step; the starter ends it at its time."""
    return {
        "argv": list(launch.argv),
        "env": launch.env,
        "unset": [*launch.unset, *WIRING, *BINDING_OF_OTHERS],
        "keep": [*passed_on(), *(ENTERING if probe else ())],
        "do": "spawn",
        "id": STEP,
        "cwd": str(run.path),
        "session": "new",
        "stdin": "null",
        "stdout": str(run.path / "survey.out"),
        "stderr": str(run.path / "survey.out"),
        "output_cap": 1024 * 1024,
        "wall_s": SURVEY_S + (probe.seconds if probe else 0.0),
        "grace_s": 2.0,
    }


def _answers(folder: Path, question: Question, head: str) -> Iterator[tuple[str, NodeFacts]]:
    """Yield each node that answered, as its files show it and, where that tells of it, as its probe has heard it."""
    said = list(_snapshots(folder))
    shown = [facts_of(one.model_copy(update={"probes": ()}), question.choice) for one in said]
    for one, facts in zip(as_heard(said, [facts.host == head for facts in shown]), shown, strict=True):
        yield facts.host, both(facts, facts_of(one, question.choice)) if one.probes else facts


def _snapshots(folder: Path) -> Iterator[Snapshot]:
    for path in sorted(folder.glob("*.json")):
        try:
            yield Snapshot.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):  # noqa: PERF203 - each may be torn
            continue
