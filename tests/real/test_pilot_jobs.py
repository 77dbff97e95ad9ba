"""The real pilot finishes jobs under pilotwrap, in a network with loopback alone."""

from __future__ import annotations

import os
import tarfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from real.pilot import TEXT, pilot_rig

from pilotwrap.model.cpulist import cpu_list

if TYPE_CHECKING:
    from pilotwrap.lab.api import Api

pytestmark = pytest.mark.usefixtures("alone")


@pytest.mark.parametrize("api", ["legacy", "current"])
def test_a_job_with_an_input_and_an_output_is_finished_and_its_files_are_where_they_belong(
    pilot_sdist: Path, api: Api
) -> None:
    with pilot_rig(pilot_sdist, api) as rig:
        spec = rig.sh("sort in.txt | tail -n 1 > out.txt", inputs=[rig.give("in.txt")], outputs=[{"lfn": "out.txt"}])
        (panda_id,) = rig.put(spec)
        ended = rig.run(*rig.server_words, *rig.pilot_words, "--json")
        assert ended.code == 0, ended
        (job,) = rig.final(panda_id)
        assert (job["state"], job["reports"]) == ("finished", 1)
        (report,) = ended.report["jobs"]
        assert (report["reason"], report["told"], report["exit_code"]) == ("ok", True, 0)
        assert set(job["files"]) == {"out.txt", *(lfn for lfn in report["files"] if lfn.endswith(".tgz"))}
        for lfn, said in job["files"].items():
            content = rig.stored(lfn).read_bytes()
            assert (said["fsize"], said["adler32"]) == (len(content), f"{zlib.adler32(content):08x}")
            assert said["guid"]
        assert rig.stored("out.txt").read_text() == "one two three\n"
        assert rig.stored("in.txt").read_text() == TEXT
        with tarfile.open(next(rig.stored(lfn) for lfn in job["files"] if lfn.endswith(".tgz"))) as log:
            assert any(name.endswith("payload.stdout") for name in log.getnames())
        happened = [entry["what"] for entry in ended.report["timeline"]]
        assert "the pilot started" in happened  # and not "without a PID namespace"


def test_a_node_is_filled_with_pilots_each_on_cores_of_its_own(pilot_sdist: Path) -> None:
    with pilot_rig(pilot_sdist, "current") as rig:
        script = "grep Cpus_allowed_list /proc/self/status > cpus.txt; cp cpus.txt out-{n}.txt"
        specs = [rig.sh(script.format(n=n), outputs=[{"lfn": f"out-{n}.txt"}]) for n in (1, 2)]
        rig.put(*specs)
        ended = rig.run(*rig.server_words, *rig.pilot_words, "--json")
        assert ended.code == 0, ended
        cores = [rig.stored(f"out-{n}.txt").read_text().split()[1] for n in (1, 2)]
        assert len(set(cores)) == 2, cores
        first, second = ended.report["jobs"]
        assert first["started_at"] < second["ended_at"]
        assert second["started_at"] < first["ended_at"]  # at the same time


def test_one_pilot_has_the_whole_node_when_told_so(pilot_sdist: Path) -> None:
    with pilot_rig(pilot_sdist, "current") as rig:
        job = rig.sh("grep Cpus_allowed_list /proc/self/status > out.txt", outputs=[{"lfn": "out.txt"}])
        rig.put({**job, "cpus_per_rank": len(os.sched_getaffinity(0))})
        ended = rig.run(*rig.server_words, *rig.pilot_words, "--json")
        assert ended.code == 0, ended
        assert rig.stored("out.txt").read_text().split()[1] == cpu_list(os.sched_getaffinity(0))
