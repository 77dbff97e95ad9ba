"""How long a run takes to its payload's first instruction, and what it asks of the file system.

    python benchmarks/startup.py [--runs 15]

Compared in one run, turn by turn: the bare interpreter, a bare script that imports the same libraries and defines and
builds as many models as the controller does, and `pilotwrap run` of a local spec. Prints medians, ratios, and the
file-system calls of starter, controller and shim apart, beyond the same interpreter's bare start.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from fscalls import Traced, total, traced

FIND_OUT = """
import json, sys
before = set(sys.modules)
import pilotwrap.cli.controller, pilotwrap.cli.run, pilotwrap.run.controller, pilotwrap.run.driver
import pilotwrap.view.progress, pilotwrap.view.summary
from pilotwrap.cli.inspect import snapshot_here
from pilotwrap.detect.node import node_facts
from pilotwrap.detect.survey import allocation_of_one
from pilotwrap.model.base import Value
from pilotwrap.model.job import JobSpec
from pilotwrap.plan.plan import plan
from pilotwrap.plan.request import PlanRequest
from pilotwrap.run.options import RunOptions
from pilotwrap.run.summary import RunEnd, run_report
facts = node_facts(snapshot_here())
plan(PlanRequest(job=JobSpec.model_validate_json('{"command":["true"]}'), allocation=allocation_of_one(facts), shim=()))
run_report([], RunEnd()).to_json()
def below(kind):
    for one in kind.__subclasses__():
        yield one
        yield from below(one)
models = [one for one in below(Value) if one.__module__.startswith("pilotwrap")]
files = list(dict.fromkeys(sys.modules[one.__module__].__file__ for one in models))
modules = [m for m in sys.modules if m not in before and not m.startswith("pilotwrap") and not m.startswith("_")]
built = [one.__name__ for one in models if one.__pydantic_complete__]
print(json.dumps({"modules": modules, "files": files, "models": len(models), "built": built}))
"""

OUR_IMPORT = re.compile(r"^from pilotwrap[. ].*?(?:\([^)]*\))?$|^from __future__.*$", re.MULTILINE)


def reference(found: dict[str, list[str]]) -> str:
    """Return the bare script: the same imports, then the same models in one file, those built that a run builds."""
    modules = [Path(file).parent / name for file in found["files"] for name in ("reasons.py", "cpulist.py")]
    needed = [str(path) for path in dict.fromkeys(modules) if path.exists()]
    ours = "\n".join(OUR_IMPORT.sub("", Path(file).read_text()) for file in [*needed, *found["files"]])
    imports = "\n".join(f"import {name}" for name in found["modules"])
    build = "\n".join(f"{name}.model_rebuild()" for name in found["built"])
    first = "os.waitpid(os.posix_spawn('/bin/sh', ['/bin/sh', '-c', 'date +%s.%N > first'], dict(os.environ)), 0)"
    return f"from __future__ import annotations\n{imports}\nimport os\n{ours}\n{build}\n{first}\n"


def seconds_to_payload(command: list[str], folder: Path) -> float:
    """Return the seconds from a process's start to the first instruction of its payload, which writes the time."""
    first = folder / "first"
    first.unlink(missing_ok=True)
    began = time.time()
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return float(first.read_text()) - began


def medians(runs: int, kinds: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Return each kind's median; the kinds take turns, so that all see the same machine."""
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(runs + 1):
        for name, measured in kinds.items():
            taken[name].append(measured())
    return {name: statistics.median(values[1:]) for name, values in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = json.loads(subprocess.run([sys.executable, "-c", FIND_OUT], check=True, capture_output=True).stdout)
        script = folder / "reference.py"
        script.write_text(reference(found))
        spec = folder / "spec.json"
        spec.write_text(json.dumps({"command": ["/bin/sh", "-c", "date +%s.%N > first"]}))
        run = [sys.executable, "-m", "pilotwrap", "run", "--spec", str(spec), "--json"]
        bare = "import os; os.waitpid(os.posix_spawn('/bin/sh', ['/bin/sh', '-c', 'date +%s.%N > first'], {}), 0)"
        took = medians(
            runs,
            {
                "bare interpreter": lambda: seconds_to_payload([sys.executable, "-c", bare], folder),
                "reference script": lambda: seconds_to_payload([sys.executable, str(script)], folder),
                "pilotwrap run": lambda: seconds_to_payload(run, folder),
            },
        )
        print_times(took, found["models"], len(found["built"]))
        print_calls(folder, spec)


def print_times(took: dict[str, float], models: int, built: int) -> None:
    """Print the medians and their ratios."""
    bare, same = took["bare interpreter"], took["reference script"]
    print(f"start of process → payload's first instruction ({models} models, {built} of them built on use)")
    print(f"  {'':<18} {'median ms':>10} {'x bare':>7} {'x reference':>12}")
    for name, seconds in took.items():
        print(f"  {name:<18} {1000 * seconds:>10.1f} {seconds / bare:>7.1f} {seconds / same:>12.2f}")


def print_calls(folder: Path, spec: Path) -> None:
    log = folder / "strace.log"
    starter = folder / "starter.pyz"
    starter.write_bytes(
        subprocess.run([sys.executable, "-m", "pilotwrap", "starter"], check=True, capture_output=True).stdout
    )
    bare = total(traced([sys.executable, "-c", "pass"], log))
    bare_isolated = total(traced([sys.executable, "-I", "-S", "-c", "pass"], log))
    os.chdir(folder)
    run = traced([sys.executable, "-m", "pilotwrap", "run", "--spec", str(spec)], log)
    controller = next(process for process in run if '"controller"' in process.argv)
    one_file = traced(
        [sys.executable, "-I", "-S", str(starter), "run", "--enter", str(entrance(folder)), "--spec", str(spec)], log
    )
    shim = traced(
        [sys.executable, "-I", "-S", str(starter), "shim", str(shim_file(folder))], log, {**os.environ, "R": "0"}
    )
    subprocess.run([sys.executable, "-I", "-S", str(starter), "compile", str(folder)], check=True)
    compiled = traced(
        [sys.executable, "-I", "-S", str(folder / "shim.py"), str(shim_file(folder))], log, {**os.environ, "R": "0"}
    )
    rows = [
        ("starter (its one file)", of_starter(one_file) - bare_isolated, 400),
        ("starter (in the package)", of_starter(run) - bare, 400),
        ("shim (of the one file)", total(shim) - bare_isolated, 200),
        ("shim (compiled)", total(compiled) - bare_isolated, 200),
        ("controller", controller.calls - bare, None),
        ("a whole run of a local spec", total(run) - bare, 3000),
    ]
    print("\nfile-system calls beyond the same interpreter's bare start")
    for name, calls, budget in rows:
        print(f"  {name:<28} {calls:>6}" + (f"   budget {budget}" if budget else ""))


def of_starter(processes: list[Traced]) -> int:
    """Return the calls of the starter, and of the keepers that it forks."""
    own = [process for process in processes if "controller" not in process.argv and "/bin/" not in process.argv[:8]]
    return sum(process.calls for process in own)


def entrance(folder: Path) -> Path:
    """Write what stands for the way into an image: `pilotwrap controller` of this environment."""
    path = folder / "enter"
    path.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -m pilotwrap "$@"\n')
    path.chmod(0o755)
    return path


def shim_file(folder: Path) -> Path:
    """Write a shim's file for one unbound rank."""
    path = folder / "shim.json"
    names = {"rank": ["R"], "local_rank": ["R"], "size": ["R"], "keep": ["PATH"], "env": {}, "unset": []}
    binding = [{"local_rank": 0, "cpus": str(min(os.sched_getaffinity(0))), "env": {}}]
    rest = {"protocol": 1, "bindings": binding, "argv": ["/bin/true"], "cwd": None, "grace_s": 1, "results": None}
    path.write_text(json.dumps({**names, **rest}))
    return path


if __name__ == "__main__":
    main()
