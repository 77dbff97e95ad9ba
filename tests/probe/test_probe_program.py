"""`python -m pilotwrap.probe SECONDS`, as a survey starts it on a node."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping

from pilotwrap.model.snapshot import ProbeSaid
from pilotwrap.probe.run import probe_nvml

Environment = Callable[[str], Mapping[str, str]]


def said(environment: Mapping[str, str], seconds: float = 20.0) -> ProbeSaid:
    line = [sys.executable, "-m", "pilotwrap.probe", str(seconds)]
    ended = subprocess.run(line, capture_output=True, text=True, check=True, env=environment, timeout=60)
    assert ended.stdout.count("\n") == 1
    assert ended.stderr == ""
    return ProbeSaid.model_validate(json.loads(ended.stdout))


def test_it_prints_what_the_probe_says_but_its_marks(environment: Environment) -> None:
    own = probe_nvml(20.0, environment("ecc:1 print"))
    rest = tuple(record for record in own.records if record["kind"] != "mark")
    assert len(rest) < len(own.records)
    assert said(environment("ecc:1 print")) == own.model_copy(update={"records": rest})


def test_a_hang_is_told_at_its_deadline(environment: Environment) -> None:
    begun = time.monotonic()
    found = said(environment("hang:2"), 1.0)
    assert time.monotonic() - begun < 10
    assert found.timed_out
    assert (found.records[-1]["reason"], found.records[-1]["index"]) == ("timeout", 2)


def test_it_loads_none_of_what_a_controller_needs(environment: Environment) -> None:
    """A thousand nodes start it at once."""
    line = [sys.executable, "-X", "importtime", "-m", "pilotwrap.probe", "20"]
    ended = subprocess.run(line, capture_output=True, text=True, check=True, env=environment(""), timeout=60)
    assert "pilotwrap.probe.run" in ended.stderr
    assert "pydantic" not in ended.stderr
