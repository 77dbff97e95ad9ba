"""The pilot of the package index itself reads our command line: its parser, and how it finds server and token.

Only its modules are imported, by an ordinary user; no pilot runs.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from plan.test_pilot_command import OLD, full, minimal

from pilotwrap.model.errors import PilotError
from pilotwrap.plan import pilotflags
from pilotwrap.plan.pilotcommand import pilot_command
from pilotwrap.plan.pilotflags import FoundPython, knows, python_for
from pilotwrap.plan.pilotwork import PilotToken, PilotWork
from pilotwrap.run.pilot3.source import FoundPilot, find, pilot_source

READ = """\
import importlib.util, json, os, sys
script = sys.argv[1]
sys.argv = sys.argv[1:]
sys.path.insert(0, os.path.dirname(script))
spec = importlib.util.spec_from_file_location("entry", script)
entry = importlib.util.module_from_spec(spec)
spec.loader.exec_module(entry)
taken = vars(entry.get_args())
from pilot.util import https
token = os.environ.get("PANDA_AUTH_TOKEN")
print(json.dumps({
    "taken": taken,
    "server": https.get_panda_server(taken["url"], taken["port"]),
    "token": token and https.locate_token(token),
}))
"""
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def as_ordinary_user() -> tuple[str, ...]:
    return NOBODY if os.geteuid() == 0 else ()


@pytest.fixture(scope="module")
def open_folder() -> Iterator[Path]:
    """A folder that another user reaches; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="pilot-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def pilot(open_folder: Path) -> FoundPilot:
    try:
        return find(pilot_source("pypi"), open_folder, dict(os.environ), shared=True)
    except PilotError as error:
        pytest.skip(f"the package index is not here: {error}")


def python() -> str:
    candidates = []
    paths = (path for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3") if Path(path).exists())
    for path in paths:
        argv = [*as_ordinary_user(), path, "-I", "-c", "import sys; print(*sys.version_info[:3])"]
        shown = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
        if shown.returncode == 0:
            candidates.append(FoundPython(path=path, version=tuple(map(int, shown.stdout.split()))))
    return python_for(OLD, candidates).path


def understood(work: PilotWork) -> subprocess.CompletedProcess[str]:
    command = pilot_command(work)
    argv = [*as_ordinary_user(), command.argv[0], "-B", "-c", READ, *command.argv[1:]]
    return subprocess.run(
        argv,
        env=command.env,
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_word_is_taken_as_it_was_meant(pilot: FoundPilot, open_folder: Path) -> None:
    token = open_folder / "bridge token"
    token.write_text("abc")
    work = full(pilot.version).model_copy(
        update={
            "python": python(),
            "directory": pilot.directory,
            "token": PilotToken(path=str(token), origin="vo.role"),
        }
    )
    ended = understood(work)
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout.splitlines()[-1])
    wanted = {
        "queue": "SITE_GPU",
        "pilot_user": "rubin",
        "job_label": "user",
        "lifetime": 3300,
        "workdir": "/scratch/job7",
        "getjob_requests": 1,
        "getjob_failures": 3,
        "cleanup": False,
        "use_rucio_traces": False,
        "update_server": True,
        "harvester_submitmode": "PULL",
        "country_group": "us",
        "debug": True,
    }
    assert {name: said["taken"][name] for name in wanted} == wanted
    assert said["server"] == "http://127.0.0.1:25080"
    assert said["token"] == str(token)


def test_a_minimal_command_line_is_taken_and_checks_no_proxy(pilot: FoundPilot) -> None:
    work = minimal(pilot.version).model_copy(update={"python": python(), "directory": pilot.directory})
    ended = understood(work)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1])["taken"]["verify_proxy"] is False


def test_tls_that_nothing_needs_is_not_set_up(pilot: FoundPilot) -> None:
    change = {"python": python(), "directory": pilot.directory, "x509_proxy": None, "token": None}
    ended = understood(full(pilot.version).model_copy(update=change))
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said["taken"]["use_https"] is False
    assert said["server"] == "http://127.0.0.1:25080"


@pytest.mark.parametrize("word", ["--nocvmfs", "--baseurls=http://a", "--resource-type=MCORE_VHIMEM"])
def test_what_we_leave_out_for_it_the_parser_refuses(pilot: FoundPilot, word: str) -> None:
    work = minimal(pilot.version).model_copy(update={"python": python(), "directory": pilot.directory})
    command = pilot_command(work)
    argv = [*as_ordinary_user(), command.argv[0], "-B", "-c", READ, *command.argv[1:], word]
    ended = subprocess.run(argv, env=command.env, cwd="/", capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert re.search("unrecognized arguments|invalid choice", ended.stderr)


def test_the_table_is_what_its_source_says(pilot: FoundPilot) -> None:
    nodes = ast.walk(ast.parse((Path(pilot.directory) / "pilot.py").read_text()))
    adding = (node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".add_argument"))
    names = {ast.literal_eval(argument) for call in adding for argument in call.args}
    known = {flag for flag in (*pilotflags._FIRST, *pilotflags.SHORT) if knows(pilot.version, flag)}
    assert names == known
