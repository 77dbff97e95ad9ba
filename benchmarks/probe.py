"""How long it takes to ask a node for its NVIDIA devices, of the tests' library, and what one that hangs costs.

    python benchmarks/probe.py [--runs 21]

That library answers at once; a real driver adds its own time. Takes turns with a bare interpreter's start, of which a
probe is one; the whole of it is what `run` and `inspect` do on a node: a generated /sys observed, the probe, and their
facts. Prints medians in ms. It needs a C compiler.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import turns

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from detect.systree import SysTree

from pilotwrap.detect.accelerators import accelerators
from pilotwrap.host import observe
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.probe.run import probe_nvml

BUDGET_S = 0.15
DEADLINE_S = 1.0
GPUS = 4
"""As many as the tests' library has."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=21)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        library = built(Path(name))
        tree = SysTree(Path(name) / "root")
        for minor in range(GPUS):
            tree.nvidia(f"0000:c{minor + 1}:00.0", minor)
        well, hanging = ({**os.environ, "LD_LIBRARY_PATH": library, "FAKE_NVML": w} for w in ("", "hang:1"))
        seconds = turns.took(
            runs,
            {
                "bare interpreter": interpreter,
                f"the probe, {GPUS} healthy GPUs": lambda: probe(well, 0),
                "observed, probed, understood": lambda: whole(tree, well),
            },
        )
        late = turns.took(3, {"hang": lambda: probe(hanging, None)})["hang"].median - DEADLINE_S
    print(turns.load())
    bare = seconds["bare interpreter"]
    for what, one in seconds.items():
        ratio, least = one.median / bare.median, one.least / bare.least
        best = 1000 * one.least
        print(f"  {what:<32} {1000 * one.median:>6.0f} ms  x {ratio:.1f}; at best {best:>4.0f} ms  x {least:.1f}")
    print(f"a healthy node may take {1000 * BUDGET_S:.0f} ms; a GPU that hangs: the deadline and {1000 * late:.0f} ms")


def built(folder: Path) -> str:
    """Compile the tests' library into a folder of its own, and return that."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        sys.exit("no C compiler: install gcc")
    source = Path(__file__).parents[1] / "tests/probe/fake_nvml.c"
    made = folder / "library"
    made.mkdir()
    line = [compiler, "-w", "-shared", "-fPIC", "-o", str(made / "libnvidia-ml.so.1"), str(source)]
    subprocess.run(line, check=True)
    return str(made)


def interpreter() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-S", "-c", "pass"], check=True)
    return time.perf_counter() - began


def probe(env: Mapping[str, str], exits: int | None) -> float:
    """Return a probe's seconds, and end the program when it did not end so."""
    began = time.perf_counter()
    said = probe_nvml(20.0 if exits == 0 else DEADLINE_S, env)
    took = time.perf_counter() - began
    if exits == 0 and said.exit != 0:
        sys.exit(f"the probe failed: {said.detail}")
    return took


def whole(tree: SysTree, env: Mapping[str, str]) -> float:
    began = time.perf_counter()
    said = Snapshot.model_validate(observe.snapshot(str(tree.root)))
    found = accelerators(said.model_copy(update={"probes": (probe_nvml(20.0, env),)}))
    took = time.perf_counter() - began
    if [one.health for one in found] != ["ok"] * GPUS:
        sys.exit(f"not {GPUS} healthy GPUs: {found}")
    return took


if __name__ == "__main__":
    main()
