"""A whole run under a launcher that queues its ranks because something else holds the nodes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fakes.test_fake_launchers import SITES, Run, pytestmark, spec

__all__ = ["pytestmark"]

HELD = """#!/bin/sh
[ -e {home}/surveyed ] && exec sleep 300
touch {home}/surveyed
"""
"""After the survey the nodes are somebody else's, and the launcher waits for them without a word."""


class HeldRun(Run):
    """A run whose second launch finds the nodes taken."""

    def _programs(self, names: list[str]) -> None:
        super()._programs(names)
        path = self.home / "bin" / self.site.launcher
        path.write_text(HELD.format(home=self.home) + path.read_text().partition("\n")[2])


def ended(site: str, home: Path) -> tuple[int, Mapping[str, Any], float]:
    run = HeldRun(SITES[site], home, spec("true"))
    code, report = run.end()
    (journal,) = (home / "runs").glob("??/*/journal.jsonl")
    return code, report, journal.stat().st_mtime - (home / "surveyed").stat().st_mtime


def test_a_request_that_cannot_be_met_fails_within_20_s_and_says_what_was_asked(tmp_path: Path) -> None:
    code, report, seconds = ended("jsrun", tmp_path)
    assert (code, report["reason"]) == (3, "launcher"), report
    assert "jsrun was asked for 4 ranks on 2 nodes and has begun none in 15 s" in report["jobs"][0]["detail"]
    assert 15 <= seconds < 20
