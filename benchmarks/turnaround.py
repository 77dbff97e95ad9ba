"""How long a trivial job takes from a program's start to its report, and until nothing of it is left.

    python benchmarks/turnaround.py [--rounds 3] [--pilot pypi] [--timeline]

Compared in one run, turn by turn, against one embedded server that has the legacy calls and the current ones: the
direct agent, PanDA's own pilot by itself, and the same pilot under pilotwrap. Each takes one job whose payload is
`true`, makes its log and reports. All is prepared before the clock starts: the pilot is fetched and unpacked, in the
run's cache and, for the bare one, in a folder of its own as its archive has it (a site's wrapper unpacks it for every
pilot); and one round is run that does not count. A round takes some 40 s, most of it the bare pilot's waiting.

The last line is a job that a run takes when it is under way: from the report of the job before it, which had all of the
node's cores, to its own.

Needs root: pilots run as the user nobody, in a room of their own with its own processes and loopback alone.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pilotwrap.lab.listing import listed_jobs
from pilotwrap.lab.process import LabProcess
from pilotwrap.lab.put import panda_job, put_jobs
from pilotwrap.lab.store import Store
from pilotwrap.model.errors import PilotwrapError
from pilotwrap.plan.pilotflags import FIXED_BASE_URL
from pilotwrap.run.pilot3.source import find, pilot_source

ROOM = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
DIRECT, ALONE, UNDER, NEXT = "direct agent", "pilot alone", "pilot under pilotwrap", "the same, next job"
BARE = "bare/pilot3"
NOBODY = 65534
PYTHON = "/usr/bin/python3"
"""What pilotwrap tries first for a pilot of another user."""

NEEDED = {"ip": "iproute2", "unshare": "util-linux", "curl": "curl", PYTHON: "python3"}
PATIENCE_S = 300.0
ADDER_S = 5.0
FINAL = {"finished", "failed"}
REPORTED = {"holding", "transferring", "finished", "failed"}
"""States that only a final report brings."""


@dataclass(frozen=True)
class Took:
    """Seconds since the start of the program, or since the report of the job before."""

    report: float
    gone: float


@dataclass(frozen=True)
class Bench:
    """The folders, the server and the pilot that all rounds share."""

    folder: Path
    lab: LabProcess
    pilot: str

    @property
    def storage(self) -> Path:
        """Return the folder of the one storage endpoint."""
        return self.folder / "storage"

    def put(self, cores: int = 1, **more: str) -> int:
        """Put a trivial job in and return its number."""
        job = panda_job({"command": ["true"], "cpus_per_rank": cores}, "benchmark")
        with closing(Store(self.lab.db)) as store:
            return put_jobs(store, [{**job, **more}])[0]["panda_id"]

    def final(self, panda_id: int) -> dict[str, Any]:
        """Return the job once the server's Adder, which looks ten times a second, has made it final, or after 5 s."""
        deadline = time.monotonic() + ADDER_S
        while True:
            with closing(Store(self.lab.db)) as store:
                (job,) = (job for job in listed_jobs(store) if job["panda_id"] == panda_id)
            if job["state"] in FINAL or time.monotonic() > deadline:
                return dict(job)
            time.sleep(0.05)

    def reported_at(self, panda_id: int) -> float:
        """Return when the server took the job's final report, in seconds since the epoch."""
        job = self.final(panda_id)
        if job["state"] != "finished" or job["reports"] != 1:
            sys.exit(f"a job did not finish, or was not reported once: {json.dumps(job)}")
        entry = next(entry for entry in job["history"] if entry["state"] in REPORTED)
        return datetime.fromisoformat(entry["at"].replace("Z", "+00:00")).timestamp()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pilot", default="pypi", help="as for `pilotwrap run`: pypi, a directory, FILE#sha256=…")
    parser.add_argument("--timeline", action="store_true", help="show the last run of the pilot under pilotwrap")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        measure(options.inside, options.pilot, options.rounds, timeline=options.timeline)
        return
    refuse()
    folder = Path(tempfile.mkdtemp(prefix="pilotwrap-turnaround-"))
    try:
        folder.chmod(0o755)
        pilot = find(pilot_source(options.pilot), folder / "runs" / "pilots", os.environ, shared=True)
        shutil.copytree(pilot.directory, folder / BARE)
        words = [f"--inside={folder}", f"--pilot={options.pilot}", f"--rounds={options.rounds}"]
        words += ["--timeline"] * options.timeline
        print(f"`true` as a PanDA job, {pilot.origin}, {len(os.sched_getaffinity(0))} CPUs", flush=True)
        sys.exit(subprocess.run([*ROOM, sys.executable, __file__, *words], check=False).returncode)
    except PilotwrapError as error:
        sys.exit(f"{error.reason}: {error}")
    finally:
        shutil.rmtree(folder)


def refuse() -> None:
    """End with one line where something is missing."""
    if os.geteuid():
        sys.exit("needs root: the pilot runs as another user in namespaces of its own; use sudo")
    missing = [package for program, package in NEEDED.items() if shutil.which(program) is None]
    if missing:
        sys.exit(f"something is missing: apt-get install {' '.join(missing)}")
    tried = subprocess.run([*ROOM, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        sys.exit(f"no namespaces are granted here ({tried.stderr.strip()}); use a container that may make them")


def measure(folder: Path, pilot: str, rounds: int, *, timeline: bool) -> None:
    """Run all rounds and print their medians; in the room, so what lives there is ours."""
    subprocess.run([shutil.which("ip") or "/sbin/ip", "link", "set", "lo", "up"], check=True)
    private = folder / "private"
    private.mkdir(mode=0o700)
    (folder / "storage").mkdir()
    os.chown(folder / "storage", NOBODY, NOBODY)
    with LabProcess(private / "lab.sqlite", ["--files", str(folder / "storage")], "both") as lab:
        bench = Bench(folder, lab, pilot)
        kinds: dict[str, Callable[[int], Took]] = {
            DIRECT: lambda turn: direct(bench, turn),
            ALONE: lambda turn: alone(bench, turn),
            UNDER: lambda turn: under_pilotwrap(bench, turn),
            NEXT: lambda turn: next_job(bench, turn),
        }
        took: dict[str, list[Took]] = {name: [] for name in kinds}
        for turn in range(rounds + 1):
            for name, measured in kinds.items():
                took[name].append(measured(turn))
    show({name: taken[1:] for name, taken in took.items()}, rounds)
    if timeline:
        print(timeline_of(folder / f"pilot-{rounds}.json"))


def timed(argv: list[str], out: Path, environment: dict[str, str], user: int | None = None) -> tuple[float, float]:
    """Return when a program was started, and when it and all that it had started were gone."""
    before = living()
    with out.open("wb") as said:
        began = time.time()
        child = subprocess.Popen(
            argv,
            cwd=out.parent,
            env=environment,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT if user else None,
        )
        code = child.wait(PATIENCE_S)
    while living() - before and time.time() < began + PATIENCE_S:
        time.sleep(0.005)
    ended = time.time()
    if code:
        sys.exit(f"{argv[0]} ended with exit code {code}; its last words: {out.read_text()[-2000:]}")
    return began, ended


def living() -> set[str]:
    """Return the processes of this room; threads of the server are none."""
    return {entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit()}


def ours(bench: Bench, turn: int, name: str, words: list[str]) -> Took:
    """Run pilotwrap for one job."""
    panda_id = bench.put()
    began, ended = run(bench, turn, name, [*words, "--jobs", "1"])
    return Took(bench.reported_at(panda_id) - began, ended - began)


def run(bench: Bench, turn: int, name: str, words: list[str]) -> tuple[float, float]:
    """Run pilotwrap, and return when it was started and when nothing of it was left."""
    where = bench.lab.address
    command = [sys.executable, "-m", "pilotwrap", "run", "--server", where.url, "--panda-queue", where.panda_queue]
    command += ["--credential", str(where.token_path), "--origin", where.origin, "--json"]
    command += ["--run-dir", str(bench.folder / "runs"), *words]
    return timed(command, bench.folder / f"{name}-{turn}.json", dict(os.environ))


def direct(bench: Bench, turn: int) -> Took:
    """Let this program's own agent do it."""
    storage = bench.folder / "storage.json"
    storage.write_text(json.dumps({"LAB": f"{bench.storage.as_uri()}/"}))
    return ours(bench, turn, "direct", ["--storage", str(storage)])


def under_pilotwrap(bench: Bench, turn: int) -> Took:
    """Let a pilot do it that pilotwrap starts, watches and ends."""
    return ours(bench, turn, "pilot", pilot_words(bench))


def next_job(bench: Bench, turn: int) -> Took:
    """Let one run do two such jobs, one after the other, and return what the second took."""
    jobs = [bench.put(cores=len(os.sched_getaffinity(0))) for _ in range(2)]
    _, ended = run(bench, turn, "two", [*pilot_words(bench), "--jobs", "2"])
    first, second = sorted(bench.reported_at(panda_id) for panda_id in jobs)
    return Took(second - first, ended - first)


def pilot_words(bench: Bench) -> list[str]:
    """Return what `run` is told of the pilot."""
    storages = f"{bench.lab.address.url}/cache/ddmendpoints.json"
    return ["--agent", "pilot3", "--pilot", bench.pilot, "--storagedata", storages]


def alone(bench: Bench, turn: int) -> Took:
    """Let a pilot do it as a site would start it."""
    panda_id = bench.put(transformation=f"{FIXED_BASE_URL}/run")
    work = bench.folder / f"alone-{turn}"
    auth = work / "auth"
    auth.mkdir(parents=True)
    token = auth / "token"
    token.write_text(bench.lab.address.token_path.read_text().strip())  # a line's end would break the pilot's header
    for path in (work, auth, token):
        os.chown(path, NOBODY, NOBODY)
    argv, environment = bare_command(bench, work), bare_environment(bench, work)
    began, ended = timed(argv, work / "pilot.out", environment, NOBODY)
    return Took(bench.reported_at(panda_id) - began, ended - began)


def bare_command(bench: Bench, work: Path) -> list[str]:
    """Return a pilot's command; it asks for one job, and its queue data come from the server's cache."""
    where = bench.lab.address
    host, _, port = where.url.rpartition(":")
    told = {
        "--queue": where.panda_queue,
        "--pilot-user": "generic",
        "--workflow": "generic",
        "--joblabel": "managed",
        "--versiontag": "PR",
        "--lifetime": "3600",
        "--getjobrequests": "1",
        "--use-rucio-traces": "False",
        "--workdir": str(work),
        "--url": host,
        "--port": port,
        "--queuedata-url": f"{where.url}/cache/schedconfig/{where.panda_queue}.all.json",
        "--storagedata-url": f"{where.url}/cache/ddmendpoints.json",
        "--input-destination-dir": str(bench.storage),
    }
    return [
        PYTHON,
        str(bench.folder / BARE / "pilot.py"),
        *(w for pair in told.items() for w in pair),
        "--noproxyverification",
    ]


def bare_environment(bench: Bench, work: Path) -> dict[str, str]:
    """Return all that the pilot sees; the token's folder ends with a slash, for the pilot takes its folder part."""
    where = bench.lab.address
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(work),
        "TMPDIR": str(work),
        "PILOT_NOKILL": "1",
        "PANDA_AUTH_DIR": f"{work}/auth/",
        "PANDA_AUTH_TOKEN": "token",
        "PANDA_AUTH_ORIGIN": where.origin,
        "LOCAL_AGIS_SCHEDCONF": f"{where.url}/cache/schedconfig/{where.panda_queue}.json",
        "http_proxy": where.url,
        "no_proxy": "127.0.0.1",
    }


def show(took: dict[str, list[Took]], rounds: int) -> None:
    """Print the medians, their ratios to the pilot alone, and what that makes of the two claims."""
    medians = {
        name: Took(statistics.median(t.report for t in taken), statistics.median(t.gone for t in taken))
        for name, taken in took.items()
    }
    first, bare, ours = medians[DIRECT], medians[ALONE], medians[UNDER]
    print(f"seconds from the program's start, medians of {rounds} rounds, and as part of the pilot's alone")
    print(f"  {'':<22} {'report accepted':>16} {'everything gone':>22}")
    for name, one in medians.items():
        told = f"{one.report:>8.2f} {one.report / bare.report:>7.2f}"
        print(f"  {name:<22} {told} {one.gone:>14.2f} {one.gone / bare.gone:>7.2f}")
    report, gone = bare.report / first.report, bare.gone / first.gone
    print(f"direct, sooner than the pilot alone: {report:.1f} times to the report, {gone:.0f} times to the end")
    report, gone = ours.report - bare.report, ours.gone - bare.gone
    print(f"pilotwrap around the pilot: {report:+.2f} s to the report, {gone:+.2f} s to the end")


def timeline_of(report: Path) -> str:
    """Return what a run says of its course."""
    entries = json.loads(report.read_text())["timeline"]
    return "\n".join(f"  {entry['at_s']:>7.3f} s  {entry['what']}" for entry in entries)


if __name__ == "__main__":
    main()
