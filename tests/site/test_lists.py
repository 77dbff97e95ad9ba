"""Lists of nodes and of CPUs, and times: print-then-read is identity, and any text is a value or a ValueError."""

import itertools
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real.slurm import Slurm

from pilotwrap.host import cpulist as host_cpulist
from pilotwrap.model.cpulist import MAX_CPU, cpu_list, cpus_of
from pilotwrap.site.digits import number_of
from pilotwrap.site.schedulers.nodelist import MAX_NODES, folded, nodes_of
from pilotwrap.site.schedulers.slurm import seconds_of

NUMBERED = st.tuples(st.sampled_from(["nid", "node-a", "gpu.b_", "x1"]), st.integers(1, 6), st.integers(0, 2000))
NEARLY = st.text(alphabet="nid[]-,0123456789. \n", max_size=40)
SLURM_LISTS = [
    "node[1-2]",
    "nid[001003-001004,001010],login1",
    "a[1-2]b[03-04]",
    "n[0-0],n[00-01]",
    "x[09-11]",
    "x[9-11,098-101]",
    "a-b.c_d",
]


def compressed(nodes: list[tuple[str, str]]) -> str:
    """Return the list of (prefix, number) as Slurm writes it: one bracket for neighbours of one prefix and width."""
    return ",".join(
        f"{prefix}[{','.join(_ranges([number for _, number in run]))}]"
        for (prefix, _), group in itertools.groupby(nodes, key=lambda node: (node[0], len(node[1])))
        for run in [list(group)]
    )


def _ranges(numbers: list[str]) -> Iterator[str]:
    start = 0
    for index in range(1, len(numbers) + 1):
        if index == len(numbers) or int(numbers[index]) != int(numbers[index - 1]) + 1:
            first, last = numbers[start], numbers[index - 1]
            yield first if first == last else f"{first}-{last}"
            start = index


@given(st.lists(NUMBERED, max_size=40, unique_by=lambda found: (found[0], str(found[2]).zfill(found[1]))))
def test_a_compressed_list_names_the_nodes_it_was_made_of(found: list[tuple[str, int, int]]) -> None:
    nodes = [(prefix, str(number).zfill(width)) for prefix, width, number in sorted(found)]
    assert nodes_of(compressed(nodes)) == tuple(prefix + number for prefix, number in nodes)


NUMBER = st.builds(lambda width, number: str(number).zfill(width), st.integers(0, 11), st.integers(0, 1200))
NAMES = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["n", "x1c", "", "a-b."]), NUMBER, st.sampled_from(["", "s", "-ib"]), NUMBER | st.just("")
    ),
)
RUNS = st.builds(
    lambda prefix, width, first, count, suffix: [f"{prefix}{n:0{width}}{suffix}" for n in range(first, first + count)],
    st.sampled_from(["n", "x1c2s", ""]),
    st.integers(1, 5),
    st.sampled_from([0, 7, 95, 998, 99_998]),
    st.integers(1, 12),
    st.sampled_from(["", "-ib0", "b1"]),
)


@given(runs=st.lists(RUNS | st.lists(NAMES, max_size=4), max_size=6), inside=st.booleans())
def test_a_folded_list_names_its_nodes_in_their_order(runs: list[list[str]], *, inside: bool) -> None:
    nodes = tuple(filter(None, itertools.chain.from_iterable(runs)))
    listed = folded(nodes, inside=inside)
    assert nodes_of(listed) == nodes
    words = re.split(r",(?![^\[]*\])", listed)
    assert all(word.count("[") <= 1 for word in words)
    assert inside or all(word.endswith("]") for word in words if "[" in word), "Slurm reads no others"


def test_neighbours_share_a_bracket_and_a_word_has_one() -> None:
    assert folded(f"frontier{number:05}" for number in range(1, 9401)) == "frontier[00001-09400]"
    assert folded(["n9", "n10", "n12", "n1"]) == "n[9-10,12,1]"
    assert folded(["x1b0", "x1b1", "x2b1", "login"]) == "x1b[0-1],x2b1,login"
    assert folded(["n08-ib", "n09-ib", "n010-ib"]) == "n08-ib,n09-ib,n010-ib"
    assert folded(["n08-ib", "n09-ib", "n010-ib"], inside=True) == "n[08-09,010]-ib"


@given(st.text(max_size=60) | NEARLY)
def test_any_text_is_a_node_list_or_a_value_error(text: str) -> None:
    try:
        nodes = nodes_of(text)
    except ValueError:
        return
    assert all(node and set(node).isdisjoint("[], \n\t/") for node in nodes)
    assert nodes_of(",".join(nodes)) == nodes


@pytest.mark.parametrize(
    "text", ["n[2-1]", "n[]", "n[1-]", "n[1", "n1]", "n,,m", "a b", "n[a-b]", "n[1-2][3", "n\n,m", "n[²]", "../n"]
)
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        nodes_of(text)


@pytest.mark.parametrize(
    "text", ["n[0-99999999]", "n[0-999][0-999]", "n[0-60000,0-60000]", f"n[{'9' * 18}]n[0-{MAX_NODES}]"]
)
def test_a_list_of_more_nodes_than_any_machine_has_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="more than 100000 nodes"):
        nodes_of(text)


def test_lists_are_read_as_slurm_reads_them(slurm: Slurm) -> None:
    for text in SLURM_LISTS:
        said = slurm.run(["scontrol", "show", "hostnames", text]).stdout
        assert nodes_of(text) == tuple(said.split()), text


@pytest.mark.parametrize(
    "nodes",
    [
        [f"nid{number:06}" for number in range(995, 1006)],
        ["n9", "n10", "n12", "n1", "login"],
        ["x1b0", "x1b1", "x2b1", "x10b1"],
        ["n08-ib", "n09-ib", "n010-ib", "n11"],
        [f"x{rack}c{slot}n0" for rack in (9, 10) for slot in range(3)],
    ],
)
def test_slurm_reads_a_folded_list_as_the_nodes_it_was_made_of(slurm: Slurm, nodes: list[str]) -> None:
    assert slurm.run(["scontrol", "show", "hostnames", folded(nodes)]).stdout.split() == nodes
    assert "Invalid" in slurm.run(["scontrol", "show", "hostnames", "n[08-09]-ib"]).stderr, "why brackets end a word"


@given(st.sets(st.integers(0, MAX_CPU), max_size=60))
def test_a_written_cpu_list_names_the_cpus_it_was_made_of(cpus: set[int]) -> None:
    written = cpu_list(cpus)
    assert cpus_of(written) == tuple(sorted(cpus))
    assert host_cpulist.written(cpus) == written
    assert host_cpulist.numbers(written) == cpus


@given(st.text(max_size=40) | st.text(alphabet="0123456789-, \n", max_size=30))
def test_any_text_is_a_cpu_list_or_a_value_error(text: str) -> None:
    try:
        cpus = cpus_of(text)
    except ValueError:
        return
    assert cpus == tuple(sorted(set(cpus)))
    assert all(0 <= cpu <= MAX_CPU for cpu in cpus)


@pytest.mark.parametrize("text", ["3-1", "-1", "1-", "a", "1-2-3", "0-999999", "²", "1 2"])
def test_what_is_no_cpu_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no CPU or range|no range"):
        cpus_of(text)


@given(st.integers(0, 400), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_a_time_left_is_read_as_squeue_writes_it(days: int, hours: int, minutes: int, seconds: int) -> None:
    text = f"{minutes}:{seconds:02}" if not (days or hours) else f"{hours}:{minutes:02}:{seconds:02}"
    text = f"{days}-{hours:02}:{minutes:02}:{seconds:02}" if days else text
    assert seconds_of(f" {text}\n") == ((days * 24 + hours) * 60 + minutes) * 60 + seconds


@pytest.mark.parametrize(
    "text",
    ["UNLIMITED", "INVALID", "NOT_SET", "", "5", "1:2", "1-5", "1:00:00:00", "\u0663:\u0660\u0660", "1:00\n2:00"],
)
def test_a_word_or_nonsense_is_no_time_left(text: str) -> None:
    assert seconds_of(text) is None


@given(st.text(max_size=40) | st.from_regex(r"[0-9]{1,30}", fullmatch=True))
def test_any_text_is_a_count_or_none(text: str) -> None:
    found = number_of(text)
    assert found is None or str(found) == text.strip().lstrip("0").zfill(1)
    assert seconds_of(text) is None or ":" in text


@pytest.mark.parametrize(
    ("text", "count"), [(" 12\n", 12), ("0", 0), ("-1", None), ("²", None), ("9" * 19, None), (None, None)]
)
def test_a_count_is_of_plain_digits(text: str | None, count: int | None) -> None:
    assert number_of(text) == count
