"""Odd words and odd files for verbs: exit code 2 and one line, on any terminal."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pilotwrap.cli.main import main
from pilotwrap.site.machines.listing import machine_named
from pilotwrap.site.machines.synthetic import machine_snapshot

ODD_WORDS = [
    ("plan --machine frontier -n 1000000000", "bad-input: -n 1000000000: "),
    ("plan --machine frontier --spec nodes.json", "bad-input: nodes.json: nodes: "),
    ("plan --machine frontier --spec ranks.json", "bad-input: ranks.json: ranks_per_node: "),
    ("plan --machine frontier --spec endless.json", "bad-input: endless.json: walltime_s: "),
    ("plan --machine frontier --spec memory.json", "524288 MiB for all ranks of a node"),
    ("plan --machine '' --spec job.json", "bad-input: no machine '' is known"),
    ("inspect --machine ''", "bad-input: no machine '' is known"),
    (f"plan --machine {'long' * 100} --spec job.json", "bad-input: no machine 'long"),
    ("plan --machine ../../etc/x --spec job.json", "bad-input: no machine '../../etc/x' is known"),
    ("plan --machine ../../etc/x.toml", "bad-input: the machine file ../../etc/x.toml cannot be read"),
    ("plan --machine pipe.toml", "bad-input: the machine file pipe.toml is not read"),
    ("plan --machine folder.toml", "bad-input: the machine file folder.toml is not read"),
    ("plan --machine large.toml", "bad-input: the machine file large.toml is not read: a file of 65536 bytes"),
    ("inspect --from job.json", "bad-input: job.json is no snapshot"),
    ("template batch frontier --minutes 1000000000", "usage: --minutes 1000000000: "),
    ("template batch frontier --minutes 0", "usage: --minutes 0: "),
    ("template batch frontier --nodes 1000000", "usage: --nodes 1000000: "),
    ("template batch frontier --run ''", "usage: --run is empty"),
    ("template batch frontier --account 'a b'", "bad-input: the account is 'a b': one word is expected"),
    ("template batch frontier --queue ''", "bad-input: the queue is ''"),
]
SPECS = {
    "job": {},
    "nodes": {"nodes": 10**12},
    "ranks": {"ranks_per_node": 10**9},
    "endless": {"walltime_s": float("inf")},
    "memory": {"memory_mib_per_rank": 10**9},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name, keys in SPECS.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"command": ["true"], **keys}))
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "large.toml").write_text("# nothing\n" * 10_000)
    return tmp_path


@pytest.mark.parametrize(("words", "said"), ODD_WORDS)
@pytest.mark.usefixtures("folder")
def test_odd_words_are_answered_with_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    import shlex

    assert main(shlex.split(words)) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert said in told.err


def test_a_value_that_looks_like_a_placeholder_is_left_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["template", "batch", "frontier", "--account", "{time}"]) == 0
    assert "#SBATCH --account={time}\n" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_what_a_file_says_never_reaches_the_terminal_as_an_order(capsys: pytest.CaptureFixture[str]) -> None:
    spec = {"command": ["true"], "outputs": [{"lfn": "a\x1b[2J", "\x1b[2J": 1}]}
    Path("odd\x1b[2J.json").write_text(json.dumps(spec))
    for words in (["--spec", "odd\x1b[2J.json"], ["--spec", "no\x1b[2J.json"], ["--machine", "\x1b[2J.toml"]):
        assert main(["plan", "--machine", "frontier", *words]) == 2
        told = capsys.readouterr().err
        assert "\\x1b[2J" in told
        assert told.strip().isprintable()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("words", [(), ("--json",), ("--draft", "draft.toml")])
def test_what_a_node_says_is_shown_whatever_the_terminal_can_write(
    folder: Path, encoding: str, words: tuple[str, ...]
) -> None:
    shown = machine_snapshot(machine_named("localhost"), 1).model_copy(update={"host": "n\u0153ud-\u20ac"})
    (folder / "node.json").write_text(shown.to_json(), encoding="utf-8")
    env = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    argv = [sys.executable, "-m", "pilotwrap", "inspect", "--from", "node.json", *words]
    ended = subprocess.run(argv, cwd=folder, env=env, capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    if words == ("--json",):
        assert json.loads(ended.stdout)["host"] == shown.host
