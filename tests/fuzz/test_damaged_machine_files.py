"""Known machines' files with damages: a machine that can be planned for, or one line with the file and the key."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz.planning import REFUSALS, answer, kept
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotwrap.detect.node import node_facts
from pilotwrap.model.errors import BadInputError
from pilotwrap.model.job import JobSpec
from pilotwrap.model.plan import Plan
from pilotwrap.site.machines.file import LINE_MOST, machine_in
from pilotwrap.site.machines.listing import machines
from pilotwrap.site.machines.machine import Machine
from pilotwrap.site.machines.script import BatchRequest, batch_script
from pilotwrap.site.machines.synthetic import machine_snapshot

FILES = sorted((Path(__file__).parents[2] / "pilotwrap/site/machines").glob("*.toml"))
LEAST = """name = "mine"
scheduler = "slurm"
launcher = "srun"
node = { cores = 1, memory_mib = 1 }
"""
"""A file that lacks nothing but its description."""

ODD_VALUES = [
    *("1", "0", "-1", "1_000_000_000", "9" * 19, "9" * 5000, "1.5", "inf", "nan", "-inf", "true", "1979-05-27"),
    *('""', '"a"', '" "', '"a\\nb"', '"\\u0000"', '"\\u001b[2J"', '"0-3"', '"3-0"', '"0-70000"', '"*"', '"[!"', '"é€"'),
    *("[]", "[[]]", "[1]", '[""]', '["{nodes}", "{x}", "{", "{}"]', "{}", "{a = 1}", '{0 = "0"}', '{-1 = ""}'),
    *("'''a\nb'''", "[", "= 1", '"slurm"', '"none"', '"lsf"', '"srun"', '"local"', '"mpiexec"', '"pals"'),
]


@st.composite
def damaged_files(draw: Callable[..., object]) -> str:
    """Give a known machine's file, of which lines are gone, said twice, or say something odd."""
    lines = str(draw(st.sampled_from([path.read_text(encoding="utf-8") for path in FILES]))).splitlines()
    for _ in range(int(str(draw(st.integers(1, 2))))):
        at = int(str(draw(st.integers(0, len(lines) - 1))))
        name, sign, _ = lines[at].partition("=")
        odd = f"{name}{sign} {draw(st.sampled_from(ODD_VALUES))}"
        lines[at : at + 1] = draw(st.sampled_from([[], [lines[at]] * 2, [odd], [odd], [odd], [f"x{name}{sign} 1"]]))  # type: ignore[call-overload]
    return "\n".join(lines)


def machine_or_refusal(text: str) -> Machine | str:
    try:
        return machine_in(text, "folder/mine.toml")
    except BadInputError as error:
        return str(error)


@settings(max_examples=400, deadline=5000)
@given(damaged_files())
def test_a_damaged_file_is_a_machine_to_plan_for_or_one_line_that_names_it(text: str) -> None:
    machine = machine_or_refusal(text)
    if isinstance(machine, str):
        assert machine.startswith("the machine file folder/mine.toml is ")
        assert machine.isprintable()
        assert len(machine) < 700
        return
    facts = node_facts(machine_snapshot(machine, 2), machine)
    shape = machine.full_node.model_dump(exclude={"line"}) if machine.full_node else {}
    asked = JobSpec(command=("APP",), mode="mpi", nodes=2, **shape)
    made = answer(asked, facts)
    if isinstance(made, Plan):
        kept(made, asked, facts)
    else:
        assert made.exit_code in REFUSALS


@settings(max_examples=200, deadline=5000)
@given(damaged_files())
def test_a_damaged_file_s_script_is_a_script_or_one_line(text: str) -> None:
    machine = machine_or_refusal(text)
    if isinstance(machine, Machine):
        try:
            script = batch_script(machine, BatchRequest(nodes=3, account="{time}"))
        except BadInputError as error:
            script = f"refused: {error}"
        assert script.endswith("exec pilotwrap run --spec job.json\n") or script.startswith("refused: ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x = " + "[" * 4000, "is no TOML: maximum recursion depth"),
        (".".join(["a"] * 40_000) + " = 1", f"is no TOML: line 1 has 80003 characters, {LINE_MOST} is the most"),
        ("description = 'd'\nx = " + "9" * 4000, "; no such key is known"),
        ("description = 'd'\nkill_grace_s = inf", "kill_grace_s: it is inf; Input should be a finite number"),
        ('description = "a\\nrm -rf ~"', "description: it is 'a\\nrm -rf ~'; a line without control characters"),
        ("kill_grace_s = 1\nkill_grace_s = 2", "is no TOML: Cannot overwrite a value (at line 2"),
    ],
)
def test_what_would_cost_a_parser_minutes_or_a_script_its_lines_is_refused(line: str, said: str) -> None:
    told = machine_or_refusal(f"{line}\n{LEAST}")
    assert isinstance(told, str)
    assert said in told


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"cores": 10**9}, "1000000000 cores of 2 threads are more than any node has"),
        ({"numa": {"0": ""}}, "a NUMA node without CPUs is left out of numa"),
        ({"memory_mib": 10**18}, "less than or equal to"),
    ],
)
def test_a_node_that_cannot_be_is_refused(node: dict[str, object], said: str) -> None:
    known = next(machine for machine in machines() if machine.node.threads_per_core == 2)
    with pytest.raises(ValueError, match=said):
        type(known.node).model_validate({**known.node.model_dump(), **node})
