"""Machines as a person meets them: named, recognised, one's own, wrong, unknown; plans and scripts for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pilotwrap.site.machines.listing import machine_named, machines
from pilotwrap.site.machines.synthetic import machine_snapshot

OWN = """name = "mine"
description = "a machine of one's own"
scheduler = "slurm"
launcher = "srun"
[[recognised]]
host = "mine*"
[node]
cores = 6
memory_mib = 4096
reserved_cpus = "0"
[full_node]
ranks_per_node = 5
cpus_per_rank = 1
"""


class Verbs:
    """Runs verbs with a configuration directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.configuration = folder / "config/pilotwrap/machines"
        self.configuration.mkdir(parents=True)

    def __call__(self, *words: str, code: int = 0) -> str:
        env = {**os.environ, "XDG_CONFIG_HOME": str(self.folder / "config")}
        argv = [sys.executable, "-m", "pilotwrap", *words]
        ended = subprocess.run(argv, cwd=self.folder, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == code, ended
        assert "Traceback" not in ended.stderr
        return ended.stdout if code == 0 else ended.stderr

    def json(self, *words: str) -> Any:  # noqa: ANN401
        return json.loads(self(*words, "--json"))


@pytest.fixture
def verbs(tmp_path: Path) -> Verbs:
    return Verbs(tmp_path)


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "specs/job.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"command": ["true"], "mode": "mpi"}))
    return str(path)


def test_whole_nodes_of_a_machine_are_planned_anywhere(verbs: Verbs) -> None:
    made = verbs.json("plan", "--machine", "frontier", "-n", "8")
    assert made["launch"]["argv"][1:4] == ["--nodes=8", "--ntasks=64", "--ntasks-per-node=8"]
    assert made["bindings"][4]["cpus"] == "1-7"
    assert made["bindings"][4]["env"] == {"ROCR_VISIBLE_DEVICES": "4"}
    assert (len(made["nodes"]), made["command"]) == (8, ["APP"])


@pytest.mark.parametrize(
    ("machine", "nodes", "line"),
    [
        ("frontier", "8", "srun -N 8 -n 64 -c7 --gpus-per-task=1 --gpu-bind=closest APP"),
        ("polaris", "3", "mpiexec -n 12 --ppn 4 --depth=8 --cpu-bind depth APP"),
        ("summit-like", "2", "jsrun -n12 -r6 -a1 -c7 -g1 -brs APP"),
    ],
)
def test_the_line_of_the_site_s_own_documentation_stands_beside_ours(
    verbs: Verbs, machine: str, nodes: str, line: str
) -> None:
    whole = verbs.json("plan", "--machine", machine, "-n", nodes)
    assert whole["because"][-1]["decision"] == line


def test_a_spec_s_plan_shows_no_line_for_whole_nodes(verbs: Verbs, spec: str) -> None:
    made = verbs.json("plan", "--machine", "frontier", "--spec", spec)
    assert not [one for one in made["because"] if one["decision"].startswith("srun ")]


def test_every_known_machine_can_be_planned_for(verbs: Verbs) -> None:
    for machine in machines():
        assert verbs.json("plan", "--machine", machine.name)["mode"] in {"mpi", "copies"}


def test_a_spec_is_planned_for_a_machine_in_place_of_its_whole_nodes(verbs: Verbs, spec: str) -> None:
    made = verbs.json("plan", "--spec", spec, "--machine", "polaris", "-n", "2")
    assert (made["command"], made["ranks_per_node"], len(made["nodes"])) == (["true"], 1, 2)


def test_a_plan_without_a_spec_needs_a_machine(verbs: Verbs) -> None:
    assert "plan needs --spec" in verbs("plan", code=2)
    (verbs.configuration / "mine.toml").write_text(OWN.partition("[full_node]")[0])
    assert "plan needs --spec" in verbs("plan", "--machine", "mine", code=2)
    assert "at least" in verbs("plan", "--machine", "frontier", "-n", "0", code=2)


def test_one_s_own_machine_is_found_in_the_configuration_directory(verbs: Verbs) -> None:
    (verbs.configuration / "mine.toml").write_text(OWN)
    assert [bound["cpus"] for bound in verbs.json("plan", "--machine", "mine")["bindings"]] == ["1", "2", "3", "4", "5"]
    assert "a machine of one's own" in verbs("machines")
    assert "mine" in {machine["name"] for machine in verbs.json("machines")["machines"]}


def test_one_s_own_machine_is_recognised(verbs: Verbs) -> None:
    (verbs.configuration / "mine.toml").write_text(OWN)
    snapshot = machine_snapshot(machine_named("localhost"), 1).model_copy(update={"host": "mine3"})
    (verbs.folder / "node.json").write_text(snapshot.to_json())
    facts = verbs.json("inspect", "--from", "node.json")
    assert (facts["machine"], facts["cpus"]["reserved"]) == ("mine", "0")


def test_a_machine_file_beside_the_spec_comes_before_all_others(verbs: Verbs, spec: str) -> None:
    (verbs.configuration / "mine.toml").write_text(OWN.replace("cores = 6", "cores = 3"))
    beside = Path(spec).parent / "mine.toml"
    beside.write_text(OWN)
    made = verbs.json("plan", "--spec", spec, "--machine", "mine")
    assert made["bindings"][0]["cpus"] == "1-5"
    assert verbs.json("plan", "--spec", spec, "--machine", str(beside)) == made


@pytest.mark.parametrize("words", [("machines",), ("inspect",), ("plan", "--machine", "frontier")])
def test_a_wrong_file_of_one_s_own_is_named_with_its_key(verbs: Verbs, words: tuple[str, ...]) -> None:
    (verbs.configuration / "mine.toml").write_text(OWN.replace("cores = 6", "cores = 'six'"))
    told = verbs(*words, code=2)
    assert "config/pilotwrap/machines/mine.toml is wrong at node.cores: it is 'six'; a whole number is expected" in told


@pytest.mark.parametrize("kind", ["pipe", "long", "no text"])
def test_a_file_of_one_s_own_that_cannot_be_read_whole_is_named_and_not_waited_for(verbs: Verbs, kind: str) -> None:
    path = verbs.configuration / "mine.toml"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(OWN.encode() + b"#" * (1 << 16) if kind == "long" else b"\xff")
    assert "config/pilotwrap/machines/mine.toml cannot be read: it is no text file" in verbs("machines", code=2)


@pytest.mark.parametrize("content", [None, b"\xff", b"= 1"])
def test_a_file_that_cannot_be_read_is_named(verbs: Verbs, content: bytes | None) -> None:
    if content is not None:
        (verbs.folder / "it.toml").write_bytes(content)
    assert "the machine file it.toml " in verbs("plan", "--machine", "it.toml", code=2)


def test_an_unknown_machine_gets_a_draft_that_can_be_used_at_once(verbs: Verbs) -> None:
    known = machine_named("tuolumne")
    shown = machine_snapshot(known.model_copy(update={"recognised": ()}), 2)
    (verbs.folder / "node.json").write_text(shown.to_json())
    printed = verbs("inspect", "--from", "node.json")
    assert "unknown" in printed
    assert 'pci_id = "1002:74a0"' in printed
    verbs("inspect", "--from", "node.json", "--draft", "draft.toml", "--json")
    assert (verbs.folder / "draft.toml").read_text() in printed
    made = verbs.json("plan", "--machine", "draft.toml", "-n", "3")
    assert (len(made["nodes"]), made["ranks_per_node"], made["launch"]["argv"][1]) == (3, 4, "run")


def test_a_known_machine_gets_no_draft_unless_asked_for(verbs: Verbs) -> None:
    (verbs.folder / "node.json").write_text(machine_snapshot(machine_named("aurora"), 2).to_json())
    assert "# CHECK" not in verbs("inspect", "--from", "node.json")
    assert verbs.json("inspect", "--from", "node.json")["machine"] == "aurora"
    assert verbs.json("inspect", "--from", "node.json", "--machine", "polaris")["machine"] == "polaris"


def test_a_batch_script_is_printed_filled_in(verbs: Verbs) -> None:
    words = ("--account", "abc1", "--queue", "q7", "-n", "9", "--minutes", "90", "--run", "--spec 'a b.json'")
    text = verbs("template", "batch", "polaris", *words)
    for line in ("#PBS -A abc1", "#PBS -q q7", "#PBS -l select=9:system=polaris", "#PBS -l walltime=01:30:00"):
        assert f"\n{line}\n" in text
    assert text.endswith("exec pilotwrap run --spec 'a b.json'\n")


@pytest.mark.parametrize(
    "words", [("batch", "nowhere"), ("batch", "localhost"), ("batch", "aurora", "-n", "0"), ("fly",), ()]
)
def test_a_script_that_cannot_be_is_refused(verbs: Verbs, words: tuple[str, ...]) -> None:
    verbs("template", *words, code=2)


def test_words_that_no_shell_would_read_are_refused(verbs: Verbs) -> None:
    assert "No closing quotation" in verbs("template", "batch", "aurora", "--run", "--spec 'a", code=2)
