"""What the help says is whole, and its examples work as they are printed."""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilotwrap.cli.main import VERBS, main, parser_of

HERE = ["inspect", "plan", "machines", "schema", "template"]
"""Verbs whose examples need neither a server, an image nor an earlier run; `demo` and `lab` have tests of their own."""


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from parsers(one)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_every_verb_says_what_it_does(verb: str) -> None:
    for parser in parsers(parser_of(verb)):
        unsaid = [one.option_strings or one.dest for one in parser._actions if one.option_strings and not one.help]
        assert unsaid == []


@pytest.mark.parametrize("verb", VERBS)
def test_an_example_stands_on_one_line_however_narrow_the_terminal(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with pytest.raises(SystemExit):
        parser_of(verb).parse_args(["--help"])
    example = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("example: "))
    assert example == f"example: {sys.modules[f'pilotwrap.cli.{verb}'].EXAMPLE}"


@pytest.mark.parametrize("verb", HERE)
def test_an_example_works_as_printed(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    Path("job.json").write_text(json.dumps({"command": ["true"]}))
    parser_of(verb)
    command = sys.modules[f"pilotwrap.cli.{verb}"].EXAMPLE.partition(" > ")[0]
    assert main(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("words", [("machines",), ("machines", "--json"), ("schema", "job")])
def test_a_full_disk_behind_the_output_is_one_line(words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        argv = [sys.executable, "-m", "pilotwrap", *words]
        ended = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert ended.returncode == 3
    assert ended.stderr == f"pilotwrap: environment: the output failed us: {os.strerror(28)}\n"
