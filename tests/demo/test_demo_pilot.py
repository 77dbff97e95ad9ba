"""The demo with PanDA's own pilot: as root, for there it gets a user and processes of its own."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from real.pilot import SHA256
from run.rig import alive_under

from pilotwrap.lab.demo import TEXT, pilot_jobs
from pilotwrap.lab.put import panda_job
from pilotwrap.lab.queuedata import storage_path

from .conftest import Demo

if TYPE_CHECKING:
    from run.rig import Ended

EXPECTED = [
    ("counts words: an input and an output", "finished", "ok"),
    ("fails on purpose", "failed", "payload-exit"),
    ("leaves a daemon behind", "finished", "ok"),
]


@pytest.fixture
def outside() -> Iterator[Demo]:
    """A demo outside of pytest's folders, which the pilot's user cannot enter."""
    path = Path(tempfile.mkdtemp(prefix="pilotwrap-demo-pilot-"))
    path.chmod(0o755)
    demo = Demo(path)
    try:
        yield demo
    finally:
        for child in demo.children:
            if child.poll() is None:
                child.kill()
            child.communicate()
        shutil.rmtree(path)


def rows(ended: Ended) -> list[tuple[str, str, str]]:
    return [(row["title"], row["state"], row["reason"]) for row in json.loads(ended.out)["jobs"]]


def test_pilots_bring_every_job_to_its_end_once(outside: Demo, pilot_sdist: Path) -> None:
    ended = outside.run("d", "--agent", "pilot3", "--pilot", f"{pilot_sdist}#sha256={SHA256}", "--json")
    assert (ended.code, rows(ended)) == (0, EXPECTED), ended
    assert [(job["state"], job["reports"]) for job in outside.jobs("d")] == [(end, 1) for _, end, _ in EXPECTED]
    counted = (outside.path / "d" / "storage" / storage_path("words.txt")).read_text().split()
    assert {word: int(number) for number, word in zip(counted[::2], counted[1::2], strict=True)} == Counter(
        TEXT.split()
    )
    assert not alive_under(outside.path)
    assert (outside.path / "d" / "lab.db").stat().st_mode & 0o077 == 0  # the pilot's user may pass through its folder


def test_without_a_pilot_it_says_what_to_do_and_shows_no_table(outside: Demo) -> None:
    ended = outside.run("d", "--agent", "pilot3", "--pilot", str(outside.path / "nothing"))
    assert ended.code == 3
    assert "there is no pilot in" in ended.line
    assert "at the server" not in ended.out
    assert [job["state"] for job in outside.jobs("d")] == ["activated"] * len(EXPECTED)


def test_without_curl_it_says_how_to_get_it(outside: Demo) -> None:
    home = outside.path / "pilot3"
    home.mkdir()
    (home / "pilot.py").touch()
    (home / "PILOTVERSION").write_text("3.7.0.36")
    outside.environment["PATH"] = str(outside.path)
    ended = outside.run("d", "--agent", "pilot3", "--pilot", str(home), "--json")
    assert ended.code == 3
    assert "curl" in ended.line
    assert rows(ended) == [(title, "activated", "never reported") for title, _, _ in EXPECTED]


def test_every_job_for_a_pilot_can_be_put_in(tmp_path: Path) -> None:
    jobs = pilot_jobs(tmp_path)
    put = [panda_job(job.spec, job.title) for job in jobs]
    assert put[0]["fsize"] == str((tmp_path / "storage" / storage_path("text.txt")).stat().st_size)
    assert [job.title for job in jobs] == [title for title, _, _ in EXPECTED]
