"""The real pilot finishes jobs under pilotwrap, in a network with loopback alone."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from real.pilot import TEXT, pilot_rig

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
