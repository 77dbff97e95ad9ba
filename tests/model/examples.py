"""One full and one minimal example of every value of the contract."""

from plan.facts import allocation, device, job, node, request

from pilotwrap.detect.survey import allocation_of_one
from pilotwrap.model.base import Value
from pilotwrap.model.inquest import Inquest
from pilotwrap.model.job import JobSpec
from pilotwrap.model.outcome import Outcome, RankOutcome, Usage
from pilotwrap.model.readiness import Check, Readiness
from pilotwrap.model.report import FileReport, JobReport, OutcomeFile, RankCount, RunReport, TimelineEntry
from pilotwrap.model.snapshot import CommandSaid, DeviceSaid, DiskSaid, FileSaid, ProbeSaid, Snapshot
from pilotwrap.plan.plan import plan

USAGE = Usage(wall_s=1.5, user_s=1, system_s=0.25, max_rss_kib=2048)
FULL_JOB = JobSpec.model_validate(
    {
        "schema": "pilotwrap.job/1",
        "command": ["payload", ""],
        "mode": "mpi",
        "nodes": 2,
        "ranks_per_node": 2,
        "cpus_per_rank": 1,
        "gpus_per_rank": 1,
        "gpu_vendor": "nvidia",
        "memory_mib_per_rank": 100,
        "binding": [{"cpus": "0", "devices": ["GPU-1"]}, {"cpus": "1", "devices": ["GPU-2"]}],
        "walltime_s": 60,
        "wait_s": 1,
        "launcher_options": ["--label"],
        "environment": [{"kind": "venv", "name": "v"}],
        "inputs": [{"lfn": "in.root", "url": "file:///in.root", "size": 0, "adler32": "0000001"}],
        "outputs": [{"lfn": "out.root", "path": "/out", "sha256": "0" * 64}],
        "account": "m1",
        "scheduler_options": ["--qos=debug"],
        "credential": {"kind": "token", "path": "/t", "origin": "atlas.production"},
    }
)
PANDA_JOB = JobSpec.model_validate({"panda": {"server": "http://127.0.0.1:1", "panda_queue": "Q"}})
FULL_NODE = node(devices=[device(1), device(2, well=False)], given=allocation(["a", "b"], time_left_s=60))
FULL_REPORT = JobReport(
    panda_id=1,
    attempt_nr=2,
    state="failed",
    reason="stage-out",
    detail="no space",
    exit_code=0,
    node="a",
    batch_id="7.a",
    core_count=4,
    started_at=1.0,
    ended_at=2.0,
    usage=USAGE,
    files={"out.root": FileReport(guid="g", size=1, adler32="00000001", url="file:///x")},
    told=True,
)
SNAPSHOT = Snapshot(
    host="a",
    source="synthetic; an example",
    ancestors=("bash",),
    variables={"A": "b"},
    files={"/proc/meminfo": FileSaid(text="x"), "/etc/shadow": FileSaid(error="EACCES")},
    listings={"/sys": ("a",)},
    commands=(CommandSaid(argv=("/usr/bin/true",), exit=0, duration_s=0.5), CommandSaid(argv=("x",), error="ENOENT")),
    programs={"true": "/usr/bin/true"},
    affinity="0-3",
    disk={"/tmp": DiskSaid(free_mib=1, free_inodes=1)},
    devices=(DeviceSaid.model_validate({"address": "0000:01:00.0", "class": "0x030200", "numa_node": 1}),),
    nvidia={"0000:01:00.0": "Model: A"},
    probes=(ProbeSaid(probe="nvml", records=({"kind": "end", "devices": 0, "ok": True, "at": 1.5, "why": None},)),),
)
RANK = RankOutcome(rank=1, host="a", exit_code=143, signal=15, reason="payload-signal", started_at=1.0, usage=USAGE)
RUN_REPORT = RunReport(
    version="0",
    state="failed",
    reason="stage-out",
    exit_code=1,
    jobs=(FULL_REPORT,),
    job_count=1,
    ranks=(RankCount(reason="ok", exit_code=0, count=1, examples=("a:0",)),),
    timeline=(TimelineEntry(at_s=0.5, what="acquired"),),
    usage=USAGE,
    outcome=OutcomeFile(path="/o", sha256="0" * 64),
    run_dir="/runs/1",
)
FULL_READINESS = Readiness(
    safe=False,
    checks=(
        Check(name="python", ok=True, detail="3.11.2 at /usr/bin/python3"),
        Check(name="role", ok=None, detail="there is no credential to ask with", remedy="give --credential"),
        Check(name="disk", ok=False, detail="no space is free", remedy="free some", reason="environment"),
    ),
)
EXAMPLES: dict[str, tuple[Value, ...]] = {
    "job": (job(), FULL_JOB, PANDA_JOB),
    "snapshot": (Snapshot(), SNAPSHOT),
    "node": (node(), FULL_NODE),
    "allocation": (allocation_of_one(FULL_NODE),),
    "plan": (plan(request(job(), node())), plan(request(job(gpus_per_rank=1), node(devices=[device(1)])))),
    "outcome": (Outcome(reason="ok", exit_code=None, ranks=()), Outcome(reason="ok", exit_code=0, ranks=(RANK,))),
    "jobreport": (JobReport(state="finished", reason="ok"), FULL_REPORT),
    "report": (RunReport(version="0", state="no-work", reason="no-work"), RUN_REPORT),
    "doctor": (Readiness(safe=True, checks=()), FULL_READINESS),
}
OTHERS: tuple[Value, ...] = (
    Inquest(run_dir="/r", state="died", reason="internal", sentence="s", remedy="r", jobs=(FULL_REPORT,)),
)
