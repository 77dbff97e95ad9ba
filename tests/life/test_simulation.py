from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .mutations import MUTATIONS, Mutation, mutant
from .simulation import ends, live, told

ROOT = Path(__file__).parents[2]
LIVES = 100_000
MUTANT_LIVES = 4_000


def test_a_hundred_thousand_lives_keep_every_promise() -> None:
    halves = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.life.simulation", "--lives", str(LIVES // 2), "--seed", str(seed)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for seed in (0, LIVES // 2)
    ]
    said = [half.communicate()[0] for half in halves]
    assert [half.returncode for half in halves] == [0, 0], "\n".join(said)


def test_the_lives_meet_every_kind_of_end() -> None:
    counts = ends(3_000, 0)
    reasons = {"cancelled", "launcher", "node-lost", "ok", "payload-exit", "preempted", "stage-in", "stage-out"}
    met = {key.rpartition("/")[2] for key in counts if key.startswith("report: ")}
    assert reasons | {"walltime"} <= met
    servers = {"told", "not asked", "sent timeout", "lost heartbeat", "killed before it started"}
    assert {f"server: {end}" for end in servers} <= set(counts)
    assert counts["died"] > 300
    assert counts["done"] > 1_500


def test_a_life_is_replayed_by_its_seed() -> None:
    assert told(live(4711)) == told(live(4711))
    assert "Acquired" in told(live(4711))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_fault_in_the_machine_is_caught(mutation: Mutation) -> None:
    with pytest.raises(AssertionError, match="--replay") as caught:
        ends(MUTANT_LIVES, 0, mutant(mutation))
    assert "an exception" not in str(caught.value).splitlines()[0], "the fault must break a promise, not the program"
