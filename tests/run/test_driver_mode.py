"""Mode driver: one process asks for steps on its job's share, and hears of their end."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .rig import Rig, Run, alive_under, until

if TYPE_CHECKING:
    from .rig import Ended

EXAMPLES = Path(__file__).parents[2] / "examples"
CORES = len(os.sched_getaffinity(0))


def spec(rig: Rig, script: str, **shape: object) -> str:
    """Write the spec of a driver that runs this text after `steps = Steps()`."""
    program = rig.path / "driver.py"
    begin = f"import json, os, sys\nsys.path.insert(0, {str(EXAMPLES)!r})\nfrom driver import Steps\nsteps = Steps()\n"
    hear = "def until(event):\n    while (word := steps.hear())['event'] != event:\n        pass\n    return word\n"
    program.write_text(begin + hear + script)
    path = rig.path / "driver.json"
    path.write_text(json.dumps({"command": [sys.executable, "-B", str(program)], "mode": "driver", **shape}))
    return str(path)


def said(run: Run) -> list[Any]:
    """Return what the driver printed, a JSON value a line."""
    (path,) = run.folder.glob("runs/??/*/jobs/spec-0/stdout")
    return [json.loads(line) for line in path.read_text().splitlines()]


def driven(rig: Rig, script: str, **shape: object) -> tuple[Ended, list[Any]]:
    run = rig.start("--spec", spec(rig, script, **shape), "--json")
    ended = run.end()
    assert "Traceback" not in ended.err
    return ended, said(run)


def test_a_driver_runs_its_steps_with_the_examples_client(rig: Rig) -> None:
    ended, words = driven(
        rig,
        "for n in range(4): steps.ask(f's{n}', command=['sh', '-c', f'exit {n}'], cpus_per_rank=1)\n"
        "for n in range(4): print(json.dumps(until('ended')))",
    )
    assert (ended.code, ended.report["job_count"]) == (0, 1)
    assert {word["id"]: (word["reason"], word["exit_code"]) for word in words} == {
        "s0": ("ok", 0),
        **{f"s{n}": ("payload-exit", n) for n in range(1, 4)},
    }


def test_a_step_has_its_environment_its_output_and_its_place(rig: Rig) -> None:
    _, words = driven(
        rig,
        "steps.ask('a', command=['sh', '-c', 'echo $COLOUR; pwd'], environment={'COLOUR': 'blue'})\n"
        "word = until('ended')\n"
        "print(json.dumps([open(word['directory'] + '/stdout').read().split(), os.getcwd()]))",
    )
    ((colour, place), here) = words[0]
    assert (colour, place) == ("blue", here)


def test_what_makes_no_sense_is_refused_and_what_is_too_large_ends(rig: Rig) -> None:
    ended, words = driven(
        rig,
        'for line in [\'nonsense\', \'[]\', \'{"do": "dance"}\', \'{"do": "step", "id": "x"}\',\n'
        '             \'{"do": "step", "command": ["true"]}\',\n'
        '             \'{"do": "step", "id": "y", "command": ["true"], "mode": "driver"}\']:\n'
        "    print(line, file=steps.asked, flush=True)\n"
        "    print(json.dumps(steps.hear()))\n"
        f"steps.ask('z', command=['true'], cpus_per_rank={CORES + 1})\n"
        "print(json.dumps(steps.hear()))",
    )
    assert ended.code == 0
    assert [word["event"] for word in words] == ["refused"] * 6 + ["ended"]
    assert words[-1]["reason"] == "bad-input"


def test_steps_never_get_more_than_their_driver_has(rig: Rig) -> None:
    _, words = driven(
        rig,
        "print(json.dumps(steps.here))\n"
        "steps.ask('two', command=['true'], cpus_per_rank=1, ranks_per_node=2)\nprint(json.dumps(steps.hear()))",
        cpus_per_rank=1,
    )
    assert words[0]["cores_per_node"] == 1
    assert (words[1]["event"], words[1]["reason"]) == ("ended", "bad-input")


def test_a_closed_connection_ends_its_steps(rig: Rig) -> None:
    """Another one then gets all cores, which the first held."""
    ended, words = driven(
        rig,
        "steps.ask('long', command=['sleep', '300'])\nuntil('started')\n"
        "steps.said.close(); steps.asked.close()\n"
        "import gc; del steps.said, steps.asked; gc.collect()\n"
        "steps = Steps()\nsteps.ask('next', command=['true'])\nprint(json.dumps(until('ended')))",
    )
    assert (ended.code, words[0]["reason"]) == (0, "ok")


def test_a_step_is_ended_on_demand(rig: Rig) -> None:
    _, words = driven(
        rig,
        "steps.ask('long', command=['sleep', '300'])\nuntil('started')\n"
        "print(json.dumps({'do': 'end', 'id': 'long'}), file=steps.asked, flush=True)\n"
        "print(json.dumps(until('ended')))",
    )
    assert words[0]["reason"] == "cancelled"


def test_the_drivers_end_ends_its_steps_and_frees_its_share_for_the_next(rig: Rig) -> None:
    after = rig.path / "after.json"
    after.write_text(json.dumps({"command": ["true"]}))
    driver = spec(rig, "steps.ask('long', command=['sleep', '300'])\nuntil('started')")
    ended = rig.run("--spec", driver, "--spec", str(after), "--json")
    assert [(job["name"], job["state"]) for job in ended.report["jobs"]] == [
        ("spec-0", "finished"),
        ("spec-1", "finished"),
    ]


def test_term_ends_the_driver_and_its_steps_within_seconds(rig: Rig) -> None:
    run = rig.start("--spec", spec(rig, "steps.ask('long', command=['sleep', '300'])\nuntil('ended')"), "--json")
    until(lambda: len(run.events("Started")) == 2, "the step runs")
    run.child.send_signal(signal.SIGTERM)
    ended = run.end(15)
    assert (ended.code, ended.report["job_count"], ended.report["state"]) == (143, 1, "cancelled")
    until(lambda: not alive_under(run.folder), "nothing lives")


def test_a_deep_run_directory_has_its_socket_all_the_same(rig: Rig) -> None:
    folder = rig.path / ("deep" * 20) / ("deeper" * 10)
    folder.mkdir(parents=True)
    run = rig.start(*("--spec", spec(rig, "print(json.dumps(os.environ['PILOTWRAP_STEPS']))"), "--json"), folder=folder)
    assert run.end().code == 0
    path = said(run)[0]
    assert len(path) < 108
    assert not Path(path).exists()
    assert not Path(path).parent.exists()
