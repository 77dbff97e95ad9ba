"""What the survey has each node's NVML asked by, and what it makes of the answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pilotwrap.model.snapshot import Snapshot
from pilotwrap.run.survey import ENTER_S, STEP, SURVEY_S, Probe, Question, probe_of, surveyed

from .rig import head
from .starter import Message, Script, ScriptedStarter, exited, started

if TYPE_CHECKING:
    from pilotwrap.run.rundir import RunDirectory

StarterOf = Callable[[Script], ScriptedStarter]
SNAPSHOTS = Path(__file__).parents[1] / "snapshots"
NODES = ("node1", "node2", "node3")
PROBE = Probe(("python3", "-m", "pilotwrap.probe", "5.0"), "/caller", 5.0)
HELLO = {"enter": [], "cwd": "/caller"}
MISSING = {"kind": "error", "reason": "library-missing", "detail": "libnvidia-ml.so.1 cannot be loaded"}
CLOSED = {"kind": "error", "reason": "unknown", "detail": "no image", "entered": False}


def snapshot(name: str, **variables: str) -> Snapshot:
    said = json.loads((SNAPSHOTS / f"{name}.json").read_text())
    said["variables"] |= variables
    return Snapshot.model_validate(said)


def answer(folder: Path, host: str, probes: list[object] | None) -> None:
    """Write what a node says; None: what its own healthy probe said."""
    said = json.loads((SNAPSHOTS / "nvidia-healthy.json").read_text())
    assert said["probes"]
    said["host"] = host
    said["variables"] |= {"SLURM_JOB_ID": "1", "SLURMD_NODENAME": host, "SLURM_JOB_NODELIST": host}
    said["probes"] = said["probes"] if probes is None else probes
    (folder / f"{host}-1.json").write_text(json.dumps(said))


class Site:
    """Three nodes that answer a survey so."""

    def __init__(self, starter_of: StarterOf, run: RunDirectory) -> None:
        self._starter_of = starter_of
        self._run = run
        self.order: Message = {}

    def survey(self, errors: Mapping[str, Mapping[str, object]], probe: Probe | None = PROBE) -> dict[str, str]:
        """Return why nodes were set aside."""

        def script(order: Message) -> Iterable[Message]:
            self.order = order
            for host in NODES:
                told = [{"probe": "nvml", "records": [errors[host]]}] if host in errors else None
                answer(Path(order["argv"][-1]), host, told)
            return [started(STEP), exited(STEP)]

        found = surveyed(
            head(hosts=NODES), self._starter_of(script).link, self._run, ("python3", "s.pyz"), Question(None, probe)
        )
        assert [len(group.facts.accelerators) for group in found.groups] == [len(found.groups[0].facts.accelerators)]
        assert all(one.health == "ok" for one in found.groups[0].facts.accelerators)
        return {node.host: node.detail for node in found.unfit}


@pytest.fixture
def site(starter_of: StarterOf, run_directory: RunDirectory) -> Site:
    return Site(starter_of, run_directory)


def test_the_step_names_the_file_that_says_how_the_probe_is_started(site: Site, run_directory: RunDirectory) -> None:
    assert site.survey({}) == {}
    argv = site.order["argv"]
    assert argv[-6:-1] == ["s.pyz", "observe", "--probe", str(run_directory.path / "survey.probe.json"), "--into"]
    path = Path(argv[-3])
    assert json.loads(path.read_text()) == {"argv": list(PROBE.argv), "cwd": "/caller", "seconds": 5.0 + ENTER_S}
    assert path.stat().st_mode & 0o777 == 0o600
    assert site.order["wall_s"] == SURVEY_S + 5.0 + ENTER_S
    assert "APPTAINER*" in site.order["keep"]


def test_without_one_nothing_changes(site: Site, run_directory: RunDirectory) -> None:
    assert site.survey({}, None) == {}
    assert "--probe" not in site.order["argv"]
    assert not (run_directory.path / "survey.probe.json").exists()
    assert (site.order["wall_s"], "APPTAINER*" in site.order["keep"]) == (SURVEY_S, False)


@pytest.mark.parametrize(("error", "why"), [(MISSING, "library-missing, libnvidia"), (CLOSED, "unknown, no image")])
def test_a_node_that_lacks_what_its_peers_have_is_set_aside_with_the_reason(
    site: Site, error: Mapping[str, object], why: str
) -> None:
    found = site.survey({"node3": error})
    assert list(found) == ["node3"]
    assert f"is unusable: {why}" in found["node3"]


@pytest.mark.parametrize("error", [MISSING, CLOSED])
def test_what_all_of_them_lack_sets_none_aside_and_their_devices_are_as_their_files_say(
    site: Site, error: Mapping[str, object]
) -> None:
    assert site.survey(dict.fromkeys(NODES, error)) == {}


def test_a_way_into_an_image_that_the_head_alone_has_sets_none_aside(site: Site) -> None:
    assert site.survey(dict.fromkeys(NODES[1:], CLOSED)) == {}


def test_on_a_bare_host_it_is_this_python_with_its_own_deadline() -> None:
    said = snapshot("nvidia-healthy", PILOTWRAP_PROBE_TIMEOUT="7.5")
    found = probe_of(said, head(hosts=NODES), HELLO)
    assert found == Probe((sys.executable, "-m", "pilotwrap.probe", "7.5"), "/caller", 7.5)


def test_into_an_image_it_goes_the_way_that_the_controller_went() -> None:
    found = probe_of(snapshot("nvidia-healthy"), head(hosts=NODES), {**HELLO, "enter": ["apptainer", "exec", "I"]})
    assert found is not None
    assert found.argv == ("apptainer", "exec", "I", sys.executable, "-m", "pilotwrap.probe", "30.0")
    assert found.seconds == 30.0 + ENTER_S


def test_a_head_without_such_devices_asks_for_none_unless_it_is_on_none_of_the_nodes() -> None:
    here, said = head(hosts=NODES), snapshot("slurm-step", PILOTWRAP_PROBE_TIMEOUT="soon")
    assert probe_of(said, here, HELLO) is None
    away = here.model_copy(update={"allocation": here.allocation.model_copy(update={"on_node": False})})
    found = probe_of(said, away, HELLO)
    assert found is not None
    assert found.deadline_s == 30.0
