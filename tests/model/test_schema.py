"""The printed JSON Schema of each value allows what we write, and refuses what we refuse."""

import json
import subprocess
import sys
from typing import Any

import pytest
from model.examples import EXAMPLES
from model.schema_check import faults

from pilotwrap.cli.schema import NAMES, schema_of

STRICT = sorted(set(NAMES) - {"snapshot"})


def example(name: str, index: int = -1) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(EXAMPLES[name][index].to_json())
    return found


def test_every_value_of_the_verb_has_examples() -> None:
    assert set(EXAMPLES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_we_write_is_what_the_schema_allows(name: str) -> None:
    for index in range(len(EXAMPLES[name])):
        assert list(faults(schema_of(name), example(name, index))) == []


@pytest.mark.parametrize("name", STRICT)
def test_an_unknown_key_is_refused(name: str) -> None:
    assert list(faults(schema_of(name), {**example(name), "colour": 1})) == ["colour is unknown"]


def test_a_snapshot_of_a_later_release_is_allowed() -> None:
    assert list(faults(schema_of("snapshot"), {**example("snapshot"), "colour": 1})) == []


@pytest.mark.parametrize("name", NAMES)
def test_another_schema_s_value_is_refused(name: str) -> None:
    assert list(faults(schema_of(name), {**example(name), "schema": "pilotwrap.other/1"})) != []


@pytest.mark.parametrize("name", NAMES)
def test_every_key_is_the_contract_s_and_every_reference_leads_somewhere(name: str) -> None:
    text = json.dumps(schema_of(name))
    assert '"schema_"' not in text
    assert schema_of(name)["$id"] == f"pilotwrap.{name}/1" == example(name)["schema"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("nodes", 0), ("mode", "all"), ("walltime_s", 0), ("command", "ls"), ("gpus_per_rank", -1), ("smt", True)],
)
def test_the_schema_refuses_a_bad_job_as_the_value_does(key: str, value: object) -> None:
    assert list(faults(schema_of("job"), {**example("job"), key: value})) != []


def test_the_verb_prints_it() -> None:
    argv = [sys.executable, "-m", "pilotwrap", "schema", "plan"]
    ended = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(ended.stdout) == schema_of("plan")
