"""NVML asked from inside an image on every node of a real Slurm: the way in is the controller's, and has faults."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from probe.conftest import library
from real.gres import ADDRESSES, GPUS
from real.image import Image
from real.slurm import started, why_not
from real.test_devices import SHOW, Site, four_nodes_gpus, run, set_aside, shown, wide
from real.worker import Worker, lab

__all__ = ["lab", "library", "wide"]


@pytest.fixture(scope="module")
def site(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if reason := why_not():
        pytest.skip(reason)
    gpus = four_nodes_gpus(tmp_path_factory.mktemp("gpus"))
    with started(4, gpus.variant(library, constrained=False)) as running:
        yield Site(running, gpus, constrained=False)


WAY_IN = """\
#!/bin/sh
export USER=${{USER:-root}} PATH={bin}:$PATH
[ "$SLURMD_NODENAME" != node3 ] || {fault}
exec {enter} "$@"
"""
"""Enters the image, and has a fault on one node."""

FAULTS: Mapping[str, tuple[str, str]] = {
    "no image there": (
        "{{ echo 'no such image'; exit 255; }}",
        "unknown, the probe ended without an answer, exit code",
    ),
    "no library there": ("unset LD_LIBRARY_PATH", "library-missing, libnvidia-ml.so.1 cannot be loaded"),
    "an illness": (":", "ecc, 3 uncorrectable memory errors"),
}


def way_in(worker_home: Path, fault: str, enter: str = "") -> str:
    """Write the way into an image, by default one that is this host; return its words."""
    path = worker_home / "enter"
    path.write_text(WAY_IN.format(bin=Path(sys.executable).parent, fault=fault.format(), enter=enter))
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("what", FAULTS)
def test_a_node_with_a_fault_of_its_own_is_set_aside_with_the_reason(site: Site, wide: Worker, what: str) -> None:
    fault, why = FAULTS[what]
    site.gpus.misbehave("node3", "ecc:0" if what == "an illness" else "")
    panda_id = wide.put(["sh", "-c", SHOW], mode="mpi", nodes=3, ranks_per_node=1, cpus_per_rank=1, gpus_per_rank=1)
    run(wide, "--enter", way_in(wide.home, fault))
    assert {node for node, *_ in shown(wide, panda_id)} == {"node1", "node2", "node4"}
    assert set(set_aside(wide)) == {"node3"}
    assert f"{ADDRESSES[0]} is unusable: {why}" in set_aside(wide)["node3"]
    wide.nothing_left()


def test_an_image_without_the_library_sets_no_node_aside(wide: Worker) -> None:
    panda_id = wide.put(["sh", "-c", SHOW], mode="mpi", nodes=3, ranks_per_node=1, cpus_per_rank=1, gpus_per_rank=GPUS)
    run(wide, "--enter", way_in(wide.home, ":", "env -u LD_LIBRARY_PATH"))
    assert len(shown(wide, panda_id)) == 3
    assert set_aside(wide) == {}


def test_in_a_real_image_its_own_python_asks(site: Site, wide: Worker, image: Image) -> None:
    site.gpus.misbehave("node3", "ecc:1")
    panda_id = wide.put(["sh", "-c", SHOW], mode="mpi", nodes=3, ranks_per_node=1, cpus_per_rank=1, gpus_per_rank=1)
    run(wide, "--enter", way_in(wide.home, ":", shlex.join(image.enter)))
    assert {node for node, *_ in shown(wide, panda_id)} == {"node1", "node2", "node4"}
    assert f"{ADDRESSES[1]} is unusable: ecc" in set_aside(wide)["node3"]
    order = json.loads((wide.run_dir / "survey.probe.json").read_text())
    assert order["argv"][:2] == [str(wide.home / "enter"), "/usr/bin/python3"]
    wide.nothing_left()
