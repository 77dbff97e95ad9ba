"""The ranks of a real Slurm's steps are started out of what was compiled while the nodes were surveyed."""

import json

from real.worker import Worker, lab, worker

from pilotwrap.run.shim import COMPILED

__all__ = ["lab", "worker"]

WAITS = "until ls {home}/runs/*/*/plans/{program}; do sleep 0.05; done"
SHOWS = "tr '\\0' ' ' < /proc/$(cut -d' ' -f4 /proc/$PPID/stat)/cmdline; echo"
"""What started the transformation, which started this."""


def test_ranks_start_out_of_what_was_compiled(worker: Worker) -> None:
    shape = {"mode": "mpi", "nodes": 2, "ranks_per_node": 4}
    first = worker.put(["sh", "-c", WAITS.format(home=worker.home, program=COMPILED)], **shape)
    second = worker.put(["sh", "-c", SHOWS], **shape)
    worker.start()
    worker.ended()
    assert [worker.verdict(panda_id)["state"] for panda_id in (first, second)] == ["finished"] * 2, worker.log
    plan = json.loads((worker.run_dir / f"plans/{second}-1.json").read_text())
    shim = plan["launch"]["argv"][-5:]
    assert shim[-2:] == [str(worker.run_dir / "plans" / name) for name in (COMPILED, f"{second}-1.shim.json")]
    # one whose codes are another Python's would have turned into the one from the sources
    assert [line.strip() for line in worker.printed(second)] == [" ".join(shim)] * 8
