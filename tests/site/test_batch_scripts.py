"""The batch scripts: launchers/ holds what the machines' files give, a shell finds no fault, Slurm runs one."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from golden.compare import Compare
from real.slurm import Slurm

from pilotwrap.model.errors import BadInputError
from pilotwrap.site.machines.listing import machine_named, machines
from pilotwrap.site.machines.script import BatchRequest, batch_script, script_name

SCRIPTED = {machine.name: machine for machine in machines() if machine.batch}
LAUNCHERS = Path(__file__).parents[2] / "launchers"


@pytest.mark.parametrize("name", SCRIPTED)
def test_a_script_of_the_folder_is_what_its_machine_s_file_gives(name: str, golden: Compare) -> None:
    golden(f"../../launchers/{script_name(SCRIPTED[name])}", batch_script(SCRIPTED[name], BatchRequest()))


def test_every_machine_with_a_batch_system_has_a_script_and_no_other_is_there() -> None:
    assert set(SCRIPTED) == {machine.name for machine in machines() if machine.scheduler != "none"}
    found = {path.name for path in LAUNCHERS.iterdir() if path.suffix != ".md"}
    assert found == {script_name(machine) for machine in SCRIPTED.values()}


@pytest.mark.parametrize("name", SCRIPTED)
def test_shellcheck_finds_nothing_in_a_script(name: str) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck here: as root, apt-get install --no-install-recommends shellcheck")
    argv = ["shellcheck", "--severity=style", str(LAUNCHERS / script_name(SCRIPTED[name]))]
    found = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize("name", SCRIPTED)
def test_a_script_is_resources_and_one_line_of_ours(name: str) -> None:
    lines = (LAUNCHERS / script_name(SCRIPTED[name])).read_text().splitlines()
    assert [line for line in lines if "pilotwrap" in line] == [lines[-1]]
    assert lines[-1].startswith("exec pilotwrap run ")
    options = [index for index, line in enumerate(lines) if line.startswith(("#SBATCH", "#PBS", "#BSUB", "#C", "#f"))]
    assert options == list(range(1, len(options) + 1)), "nothing stands between the options, or before them"
    assert "{" not in "".join(lines[: len(options) + 1])


@pytest.mark.parametrize("name", SCRIPTED)
def test_a_script_is_filled_in(name: str) -> None:
    request = BatchRequest(account="acc7", queue="short", nodes=13, minutes=95, words=("run", "--spec", "a b.json"))
    text = batch_script(SCRIPTED[name], request)
    assert text.endswith("exec pilotwrap run --spec 'a b.json'\n")
    assert all(word in text for word in ("acc7", "short", "13"))
    assert any(time in text for time in ("01:35:00", "1:35", "95m"))


@pytest.mark.parametrize("account", ["a b", "", "a\n#SBATCH --uid=0"])
def test_a_value_that_would_break_a_line_is_refused(account: str) -> None:
    with pytest.raises(BadInputError, match="one word is expected"):
        batch_script(SCRIPTED["frontier"], BatchRequest(account=account))


def test_a_machine_without_a_batch_system_has_no_script() -> None:
    with pytest.raises(BadInputError, match="localhost has no batch script"):
        batch_script(machine_named("localhost"), BatchRequest())


def test_slurm_runs_a_script_of_ours(slurm: Slurm, tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text(json.dumps({"command": ["sh", "-c", "echo here $SLURMD_NODENAME"], "nodes": 2}))
    request = BatchRequest(queue="main", minutes=2, words=("run", "--spec", "job.json", "--json"))
    # our program, as on PATH after `pip install`
    (tmp_path / "pilotwrap").write_text(f'#!/bin/sh\nexec {sys.executable} -m pilotwrap "$@"\n')
    (tmp_path / "pilotwrap").chmod(0o755)
    script = batch_script(SCRIPTED["frontier"], request)
    path = f"{tmp_path}:{slurm.env['PATH']}"
    job = slurm.sbatch(script, f"--chdir={tmp_path}", f"--export=ALL,PATH={path}")
    assert (slurm.wait(job), slurm.output(job)) == ("COMPLETED", slurm.output(job))
    report = json.loads(slurm.output(job).splitlines()[-1])
    assert (report["state"], report["reason"]) == ("finished", "ok")
    printed = (Path(report["run_dir"]) / "jobs/spec-0/stdout").read_text()
    assert sorted(printed.split()) == ["here", "here", *slurm.nodes]
