"""Recorded snapshots, of which parts are taken away, doubled, emptied, enlarged or garbled."""

import json
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

Json = object
RECORDED = sorted((Path(__file__).parents[1] / "snapshots").glob("*.json"))
LARGE = "9" * 30
ODD_TEXTS = [
    *(
        "",
        " ",
        "\0",
        "\x1b[2J",
        "a\nb",
        "é€",
        "?",
        "-1",
        "0",
        LARGE,
        "0-65535",
        "0-99999",
        "1,0",
        "3-1",
        "0,0",
        ",",
        "1-",
    ),
    *(
        "n[1-3]",
        "n[1-",
        "n[3-1]",
        "n[1-100000][1-100000]",
        "n[001-4]",
        "[",
        "]",
        "a/b",
        "../..",
        "a b",
        "a 1 b",
        "a 1 b 2 c",
    ),
    *("UNLIMITED", "INVALID", "-5:00", "1-00:00:00", "99999999:00:00", "N/A", "0:00", "{}", "[[[[", '{"Jobs": {}}'),
    *(
        "GPU-",
        "MIG-",
        "0,1,2,3",
        "0,0",
        "7",
        "*:*",
        "!level_zero:0",
        "level_zero:*.*",
        "0.0,0.1",
        "gpu:a100:4",
        "0x10de",
    ),
    *("MemTotal: 0 kB", "max", "max 100000", "-100 100000", "100000 0"),
]
VARIABLES = [
    *("SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURMD_NODENAME", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"),
    *("SLURM_GPUS_PER_NODE", "SLURM_GPUS_ON_NODE", "SLURM_JOB_GPUS", "SLURM_JOB_END_TIME", "SLURM_RESTART_COUNT"),
    *("PBS_JOBID", "PBS_NODEFILE", "PBS_TASKNUM", "PBS_ENVIRONMENT", "LSB_JOBID", "LSB_MCPU_HOSTS", "LSB_HOSTS"),
    *("LSB_DJOB_HOSTFILE", "LSB_JOBINDEX", "COBALT_JOBID", "COBALT_PARTNAME", "COBALT_NODEFILE", "COBALT_ENDTIME"),
    *("FLUX_URI", "FLUX_ENCLOSING_ID", "FLUX_JOB_ID", "PMI_RANK", "PMIX_RANK", "http_proxy", "SLURM_MPI_TYPE"),
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
    *("GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK", "ZE_FLAT_DEVICE_HIERARCHY", "ONEAPI_DEVICE_SELECTOR"),
]
odd_texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=8)
odd_leaves = odd_texts | st.none() | st.booleans() | st.sampled_from([-1, 0, 2**31, -(2**63), 10**25, 1e308, -0.5])


def _kept(value: Json, draw: Callable[..., Json]) -> Json:
    """Return a leaf of the same type with odd content."""
    if isinstance(value, bool) or value is None:
        return draw(st.booleans() | st.none())
    if isinstance(value, (int, float)):
        return draw(st.sampled_from([-1, 0, 2**31, -(2**62), 10**15]))
    return draw(odd_texts)


def _damaged(value: Json, draw: Callable[..., Json]) -> Json:
    if isinstance(value, dict):
        return _damaged_table(value, draw)
    if isinstance(value, list):
        return _damaged_list(value, draw)
    return _kept(value, draw) if draw(st.integers(0, 9)) else draw(odd_leaves)


def _damaged_table(value: dict[str, Json], draw: Callable[..., Json]) -> Json:
    what = draw(st.sampled_from(["deeper", "deeper", "deeper", "deeper", "without", "empty", "renamed"]))
    if not value or what == "empty":
        return {}
    name = draw(st.sampled_from(sorted(value)))
    if what == "deeper":
        return {**value, name: _damaged(value[name], draw)}
    rest = {key: one for key, one in value.items() if key != name}
    return rest if what == "without" else {**rest, str(draw(odd_texts)): value[name]}


def _damaged_list(value: list[Json], draw: Callable[..., Json]) -> Json:
    what = draw(st.sampled_from(["deeper", "deeper", "deeper", "without", "empty", "doubled", "reversed"]))
    if not value or what == "empty":
        return []
    if what in {"doubled", "reversed"}:
        return value + value if what == "doubled" else value[::-1]
    at = draw(st.integers(0, len(value) - 1))
    return [*value[:at], *([_damaged(value[at], draw)] if what == "deeper" else []), *value[at + 1 :]]


@st.composite
def damaged_snapshots(draw: Callable[..., Json]) -> str:
    """Give a snapshot's JSON with a few damages, and variables that contradict each other."""
    said = json.loads(draw(st.sampled_from(RECORDED)).read_text())
    for _ in range(draw(st.integers(0, 4))):
        name = draw(st.sampled_from(sorted(set(said) - {"schema"})))
        said[name] = _damaged(said[name], draw)
    if isinstance(said["variables"], dict):
        said["variables"] |= draw(st.dictionaries(st.sampled_from(VARIABLES), odd_texts, max_size=4))
    return json.dumps(said)
