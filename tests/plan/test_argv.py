"""Two jobs through every launcher, compared word by word with its golden file."""

import itertools
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from golden.compare import FOLDER, Compare

import pilotwrap.site.launchers
from pilotwrap.model.errors import LauncherError
from pilotwrap.model.plan import Launch
from pilotwrap.site.launchers.listing import LAUNCHERS, LauncherKind
from pilotwrap.site.launchers.request import WORD_MOST, LaunchRequest, Part
from pilotwrap.site.schedulers.nodelist import nodes_of

KINDS = {kind.FLAVOUR or kind.NAME: kind for kind in LAUNCHERS}
NOT_LAUNCHERS = {"__init__", "listing", "request", "version"}
HOSTS = ("nid00001", "nid00002", "nid00010")
SHIM = ("/usr/bin/python3", "/runs/job/starter.pyz", "shim", "/runs/job/shim.json")
MAX_ARG_STRLEN = 128 * 1024
"""Bytes of one word (linux/binfmts.h)."""


def request(kind: LauncherKind, job: str) -> LaunchRequest:
    program = f"/usr/bin/{next(iter(kind.PROGRAMS), 'mpiexec')}"
    if job == "minimal":
        return LaunchRequest(
            program=program, hosts=(HOSTS[0],), here=HOSTS[0], ranks_per_node=1, one_fails_all=False, command=SHIM
        )
    return LaunchRequest(
        program=program,
        hosts=HOSTS,
        here=HOSTS[0],
        ranks_per_node=4,
        one_fails_all=True,
        gpus_per_node=4,
        mpi_types=("none", "cray_shasta", "pmi2"),
        options=("--label", "a b;$c"),
        command=SHIM,
    )


def described(launch: Launch) -> Mapping[str, object]:
    files = {path: text.splitlines() for path, text in launch.files.items()}
    return {"argv": launch.argv, "env": launch.env, "unset": launch.unset, **({"files": files} if files else {})}


@pytest.mark.parametrize("name", KINDS)
def test_a_launcher_is_called_as_its_manual_says(name: str, golden: Compare) -> None:
    kind = KINDS[name]
    full = request(kind, "full")
    jobs = {"minimal": kind.command(request(kind, "minimal")), "full": kind.command(full)}
    aside = {"granted": ("nid00000", *HOSTS), "aside": ("nid00000",), "cpus_per_node": 8, "devices_per_node": 4}
    ways: dict[str, dict[str, object]] = {"part": {"part": Part(cores=2, devices=1)}, "aside": aside}
    others = {name: kind.command(full.model_copy(update=way)) for name, way in ways.items()}
    jobs |= {name: launch for name, launch in others.items() if launch != jobs["full"]}
    said = {job: described(launch) for job, launch in jobs.items()}
    golden(f"argv/{name}.json", json.dumps({"source": kind.SOURCE, **said}, indent=1) + "\n")


def test_every_file_of_the_folder_is_listed_and_has_its_golden_file() -> None:
    folder = Path(pilotwrap.site.launchers.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} - NOT_LAUNCHERS == set(KINDS)
    assert {path.stem for path in (FOLDER / "argv").glob("*.json")} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_the_shim_comes_last_and_a_user_s_options_after_ours(name: str) -> None:
    argv = KINDS[name].command(request(KINDS[name], "full")).argv
    assert argv[-len(SHIM) :] == SHIM
    options = argv.index("--label")
    assert argv[options + 1] == "a b;$c"
    rest = argv[options + 2 : -len(SHIM)]
    assert not rest or rest[0] == "/bin/sh", "what starts a rank, and no option of the launcher, follows them"


@pytest.mark.parametrize("name", KINDS)
def test_the_launcher_binds_nothing_for_the_shim_does(name: str) -> None:
    words = " ".join(KINDS[name].command(request(KINDS[name], "full")).argv)
    off = ("--cpu-bind=none", "-bind-to none", "--cpu-bind none", "--bind none", "-cc none", "cpu-affinity=off")
    assert any(one in words for one in off), words


def test_the_own_host_alone_is_reached_without_a_remote_shell_and_another_one_is_not() -> None:
    here = request(KINDS["hydra"], "minimal")
    there = here.model_copy(update={"here": HOSTS[1]})
    assert "fork" in KINDS["hydra"].command(here).argv
    assert KINDS["hydra"].command(there).argv[1:3] == ("-hosts", HOSTS[0])


def test_jsrun_which_chooses_its_hosts_leaves_none_out_where_it_cannot_be_told_what_a_host_has() -> None:
    asked = request(KINDS["jsrun"], "full").model_copy(update={"aside": ("nid00007",)})
    with pytest.raises(LauncherError, match="nid00007, which is set aside"):
        KINDS["jsrun"].command(asked)


NUMBERED = tuple(f"nid{number:05}" for number in range(1, 10_001))
EVERY_OTHER = tuple(f"nid{number:05}" for number in range(1, 20_001, 2))
BY_PLACE = tuple(
    f"x{rack}c{chassis}s{slot}b{board}n0"
    for rack, chassis, slot, board in itertools.product(range(4000, 4079), range(8), range(8), range(2))
)[:10_000]
BY_NAME = tuple(f"host-{number * 7919 % 10_007:x}-node.example.org" for number in range(1, 10_001))
LONG = {"numbered": NUMBERED, "every other": EVERY_OTHER, "by place": BY_PLACE, "by name": BY_NAME}


def lists_told(launch: Launch) -> Iterator[tuple[str, ...]]:
    """Give the lists of hosts that a launcher may have been told: each file's, and each word's, read as one."""
    for text in launch.files.values():
        yield tuple(line.partition(" ")[0] for line in text.splitlines())
    for word in launch.argv:
        listed = re.sub(r"^-.*?=(hosts:)?", "", word).replace(":4", "")
        for written in (listed, f"[{listed}]"):
            with suppress(ValueError):
                yield nodes_of(written)


NAMELESS = {("aprun", "by place"), ("aprun", "by name"), ("flux", "by name")}
"""ALPS numbers its nodes; Flux reads no file, and is asked in the next test."""


@pytest.mark.parametrize(("name", "kind_of_names"), sorted(set(itertools.product(KINDS, LONG)) - NAMELESS))
def test_ten_thousand_nodes_fit_the_kernel_s_bounds_of_a_command_line(name: str, kind_of_names: str) -> None:
    hosts, kind = LONG[kind_of_names], KINDS[name]
    asked = request(kind, "full").model_copy(update={"hosts": hosts, "hosts_file": "/runs/job.hosts"})
    began = time.process_time()
    launch = kind.command(asked)
    assert time.process_time() - began < 1
    assert max(map(len, launch.argv)) < MAX_ARG_STRLEN
    assert sum(map(len, launch.argv)) < 1 << 20
    assert all(path in " ".join(launch.argv) for path in launch.files)
    if name != "jsrun":  # which finds the hosts of the allocation itself
        assert (tuple(str(int(host[3:])) for host in hosts) if name == "aprun" else hosts) in lists_told(launch)


def test_flux_which_reads_lists_on_the_line_alone_refuses_one_that_is_too_long() -> None:
    asked = request(KINDS["flux"], "full").model_copy(update={"hosts": BY_NAME})
    with pytest.raises(LauncherError, match="10000 nodes"):
        KINDS["flux"].command(asked)


def test_jsrun_is_told_the_hosts_of_ten_thousand_nodes_but_one() -> None:
    asked = request(KINDS["jsrun"], "full").model_copy(
        update={"granted": NUMBERED, "aside": NUMBERED[2:3], "cpus_per_node": 168, "devices_per_node": 6}
    )
    launch = KINDS["jsrun"].command(asked.model_copy(update={"hosts": NUMBERED[:2] + NUMBERED[3:]}))
    ((path, text),) = launch.files.items()
    assert ("--erf_input", path) == launch.argv[1:3]
    used = [line.split("host: ")[1].split(";")[0] for line in text.splitlines() if line.startswith("rank:")]
    assert used == [str(number) for number in range(1, 10_001) if number != 3 for _ in range(4)]


def test_what_fits_is_on_the_line_for_whoever_reads_it() -> None:
    hosts = NUMBERED[: WORD_MOST // (len(NUMBERED[0]) + 3)]
    for kind in LAUNCHERS:
        assert not kind.command(request(kind, "full").model_copy(update={"hosts": hosts})).files


def test_part_of_a_node_is_not_taken_alone_and_its_cores_are_those_of_all_its_nodes() -> None:
    asked = request(KINDS["flux"], "full")
    assert "--exclusive" in KINDS["flux"].command(asked).argv
    shared = KINDS["flux"].command(asked.model_copy(update={"part": Part(cores=2)})).argv
    assert "--exclusive" not in shared
    assert "--cores=6" in shared


def test_aprun_refuses_a_node_without_a_number() -> None:
    asked = request(KINDS["aprun"], "full").model_copy(update={"hosts": ("nid00001", "login1")})
    with pytest.raises(LauncherError, match="'login1' has none"):
        KINDS["aprun"].command(asked)


@pytest.mark.parametrize("own", ["--mpi=pmix", "--mpi"])
def test_srun_s_mpi_type_of_the_user_is_not_overridden(own: str) -> None:
    asked = request(KINDS["srun"], "full").model_copy(update={"options": (own,)})
    assert [word for word in KINDS["srun"].command(asked).argv if word.startswith("--mpi")] == [own]


def test_asking_twice_gives_the_same() -> None:
    for kind in LAUNCHERS:
        assert kind.command(request(kind, "full")) == kind.command(request(kind, "full"))
