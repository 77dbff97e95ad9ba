"""Any snapshot, however broken, ends in facts: what cannot be read is a problem in them, never an exception."""

from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.detect.node import node_facts
from pilotwrap.detect.survey import allocation_facts, allocation_of_all, allocation_of_one
from pilotwrap.model.allocation import AllocationFacts
from pilotwrap.model.cpulist import cpus_of
from pilotwrap.model.node import NodeFacts
from pilotwrap.model.snapshot import Snapshot
from pilotwrap.plan.ledger import ledger_of, slots
from pilotwrap.site.listing import all_looks
from pilotwrap.view.node import described

CGROUP = "/sys/fs/cgroup"
PATHS = [
    "/nodefile",
    "/proc/meminfo",
    "/proc/self/cgroup",
    "/proc/driver/nvidia/version",
    "/sys/devices/system/cpu/possible",
    "/sys/devices/system/node/node0/cpulist",
    "/sys/devices/system/node/node1/cpulist",
    "/sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
    "/sys/devices/system/cpu/cpu2/topology/thread_siblings_list",
    f"{CGROUP}/cpuset.cpus.effective",
    f"{CGROUP}/cpuset/cpuset.cpus",
    f"{CGROUP}/cpu.max",
    f"{CGROUP}/cpu/cpu.cfs_quota_us",
    f"{CGROUP}/cpu/cpu.cfs_period_us",
    f"{CGROUP}/memory.max",
    f"{CGROUP}/memory/memory.limit_in_bytes",
]
CPU_LISTS = st.sampled_from(["", "0", "0-3", "0-1,4-5", "2-9", "0,2", "0-1", "1-3,65535", "9-1"])
WORDS = st.sampled_from(
    ["0", "-1", "max", "max 100000", "100 0", "0 0", "150000 100000", "9" * 30, "\u00b2", "1 2 3", " "]
)
TEXTS = CPU_LISTS | WORDS | st.sampled_from(["MemTotal: 5 kB", "MemTotal: " + "9" * 20 + " kB"]) | st.text(max_size=20)
FILES = st.dictionaries(st.sampled_from(PATHS), st.fixed_dictionaries({"text": st.none() | TEXTS}))
VARIABLES = st.dictionaries(
    st.sampled_from(
        [
            *("SLURM_JOB_ID", "SLURM_JOB_NODELIST", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS"),
            *("SLURM_RESTART_COUNT", "SLURMD_NODENAME", "PMI_RANK", "http_proxy", "NO_PROXY", "NERSC_HOST"),
            *("SLURM_GPUS_PER_NODE", "SLURM_JOB_GPUS", "PBS_JOBID", "PBS_NODEFILE", "LSB_JOBID", "LSB_MCPU_HOSTS"),
            *("LSB_HOSTS", "COBALT_JOBID", "COBALT_PARTNAME", "COBALT_ENDTIME", "FLUX_URI", "FLUX_ENCLOSING_ID"),
        ]
    ),
    TEXTS | st.sampled_from(["node[1-3]", "node1", "http://u:p@h:1", "a 1 b 2", "3-4,9", "perlmutter", "/nodefile"]),
)
COMMANDS = st.lists(
    st.fixed_dictionaries(
        {
            "argv": st.sampled_from(
                [
                    *([], [""], ["/"], ["/usr/bin/squeue", "-h"], ["srun", "--mpi=list"], ["qstat", "-f"], ["bjobs"]),
                    *(list(command.argv) for command in all_looks().commands),
                ]
            ),
            "exit": st.none() | st.integers(-9, 2),
            "output": TEXTS
            | st.sampled_from(
                [
                    *("1:00", "MPI plugin types are...\n\tpmi2\n", "1:00 L", "n[1-2] 8\n", "{", "[1]", "n[2-1]"),
                    *('{"Jobs": {"1": {"Resource_List": {"walltime": 5}, "exec_host": "a/0+b/0"}}}', "stime = x"),
                    '{"Jobs": {"1": {"Resource_List": {"ngpus": 3}, "exec_host": "a b/0"}}}',
                ]
            ),
            "error": st.none() | st.sampled_from(["ENOENT", "deadline"]),
        }
    ),
    max_size=4,
)
ADDRESSES = st.sampled_from(["0000:01:00.0", "0000:02:00.0", "?", ""])
DEVICES = st.lists(
    st.fixed_dictionaries(
        {"address": ADDRESSES},
        optional={
            "class": st.sampled_from(["0x030200", "0x030000", ""]),
            "vendor": st.sampled_from(["0x10de", "1002", "0x8086", "0x1a03", ""]),
            "device": TEXTS,
            "numa_node": st.none() | st.integers(-1, 3) | TEXTS,
            "local_cpus": st.none() | TEXTS,
            "granted": st.none() | st.booleans(),
        },
    ),
    max_size=4,
)
RECORDS = st.dictionaries(
    st.sampled_from(["kind", "type", "pci_address", "model", "uuid", "memory_mib", "health", "reason"]),
    st.sampled_from(
        ["device", "error", "mig", "gpu", "unusable", "ok", "lost", "", "0000:01:00.0", None, True, 7, 1.5]
    ),
)
PROBES = st.lists(
    st.fixed_dictionaries(
        {
            "probe": st.sampled_from(["nvml", "other"]),
            "records": st.lists(RECORDS, max_size=4),
            "timed_out": st.booleans(),
        }
    ),
    max_size=2,
)
ANCESTORS = st.lists(
    st.sampled_from(
        ["bash", "slurmstepd: [1.0]", "slurmstepd: [1.batch]", "slurmstepd: [", "pbs_mom", "palsd", "flux-shell"]
    ),
    max_size=2,
)
SNAPSHOTS = st.fixed_dictionaries(
    {
        "host": st.sampled_from(["node1", ""]),
        "affinity": CPU_LISTS | TEXTS,
        "ancestors": ANCESTORS,
        "variables": VARIABLES,
        "files": FILES,
        "commands": COMMANDS,
        "programs": st.dictionaries(st.sampled_from(all_looks().programs), st.just("/usr/bin/it"), max_size=4),
        "devices": DEVICES,
        "nvidia": st.dictionaries(ADDRESSES, TEXTS | st.just("Model: A\nGPU UUID: GPU-1\n"), max_size=2),
        "probes": PROBES,
    }
).map(Snapshot.model_validate)


def allocation_of(facts: NodeFacts) -> AllocationFacts:
    return allocation_of_one(facts) if facts.allocation.node_count == 1 else allocation_of_all(facts)


@given(SNAPSHOTS)
def test_any_snapshot_ends_in_facts_that_survive_json(snapshot: Snapshot) -> None:
    facts = node_facts(snapshot)
    assert NodeFacts.model_validate_json(facts.to_json()) == facts
    assert facts == node_facts(Snapshot.model_validate_json(snapshot.to_json()))
    assert described(facts).count("\n") >= 6


@given(SNAPSHOTS)
def test_cores_are_the_granted_cpus_each_in_one_core(snapshot: Snapshot) -> None:
    cpus = node_facts(snapshot).cpus
    threads = [thread for core in cpus.cores for thread in cpus_of(core)]
    assert sorted(threads) == list(cpus_of(cpus.granted))
    assert len(threads) == len(set(threads))
    firsts = [cpus_of(core)[0] for core in cpus.cores]
    assert firsts == sorted(firsts)
    assert cpus.quota is None or cpus.quota > 0


@given(SNAPSHOTS)
def test_an_unusable_device_has_a_reason_and_a_usable_one_none(snapshot: Snapshot) -> None:
    for device in node_facts(snapshot).accelerators:
        assert (device.health == "unusable") == (device.reason is not None)


@given(SNAPSHOTS)
def test_an_allocation_of_any_node_can_be_lent(snapshot: Snapshot) -> None:
    from plan.facts import job

    facts = node_facts(snapshot)
    allocation = allocation_of(facts)
    assert AllocationFacts.model_validate_json(allocation.to_json()) == allocation
    assert slots(ledger_of(allocation), job(cpus_per_rank=1)) <= len(facts.cpus.cores) * len(allocation.hosts)


@given(st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.none() | SNAPSHOTS.map(node_facts), min_size=1))
def test_every_surveyed_node_is_fit_once_or_set_aside_with_a_reason(nodes: dict[str, NodeFacts | None]) -> None:
    head = next((facts for facts in nodes.values() if facts), node_facts(Snapshot()))
    found = allocation_facts(head, nodes)
    fit = [host for group in found.groups for host in group.hosts]
    aside = [node.host for node in found.unfit]
    assert sorted(fit + aside) == sorted(nodes)
    assert all(node.reason and node.detail for node in found.unfit)
