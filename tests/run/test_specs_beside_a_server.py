"""A server's jobs and jobs of one's own in one run: the first spec is the fetched ones' shape, the others are jobs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .rig import Rig


def test_both_run_and_only_the_fetched_ones_are_told_to_the_server(rig: Rig) -> None:
    (fetched,) = rig.put(rig.sh("echo fetched"))
    for name, values in {
        "shape": {"command": ["true"], "cpus_per_rank": 1},
        "own": [rig.sh("exit 0"), rig.sh("exit 4")],
    }.items():
        (rig.path / f"{name}.json").write_text(json.dumps(values))
    words = ["--spec", str(rig.path / "shape.json"), "--spec", str(rig.path / "own.json")]
    ended = rig.run(*rig.server_words, "--storage", str(rig.map), *words, "--json")
    jobs = {job["name"]: (job["state"], job["exit_code"], job["told"]) for job in ended.report["jobs"]}
    assert jobs == {
        f"{fetched}-1": ("finished", 0, True),
        "spec-0": ("finished", 0, True),
        "spec-1": ("failed", 4, True),
    }
    assert ended.code == 1
    (job,) = rig.final(fetched)
    assert (job["state"], job["reports"]) == ("finished", 1)
