"""What the starter looks at is what the site's files want, and what they want is understood by it."""

import runpy
from fnmatch import fnmatch
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.host import looks, names
from pilotwrap.host.observe import filled
from pilotwrap.site import basis
from pilotwrap.site.listing import all_looks, looks_source, passed_on
from pilotwrap.site.looks import Command, Looks, union
from pilotwrap.site.machines.listing import machines


def test_the_committed_file_is_what_the_site_s_files_say() -> None:
    assert Path(looks.__file__).read_text() == looks_source(), (
        "python -m pilotwrap.site.listing > pilotwrap/host/looks.py"
    )


def test_the_written_file_is_read_back_as_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "looks.py"
    path.write_text(looks_source())
    wanted = all_looks()
    assert runpy.run_path(str(path))["LOOKS"] == {
        "variables": list(wanted.variables),
        "files": list(wanted.files),
        "commands": [{"when": when, "argv": list(argv)} for when, argv in wanted.commands],
        "programs": list(wanted.programs),
    }


@pytest.mark.parametrize("command", all_looks().commands)
def test_a_command_is_asked_only_where_its_program_is_looked_for(command: Command) -> None:
    assert command.argv[0] in all_looks().programs
    assert any(fnmatch(command.when, pattern) for pattern in all_looks().variables)


def test_every_place_in_a_command_or_path_is_a_variable_that_is_recorded() -> None:
    words = [word for _, argv in all_looks().commands for word in argv] + list(all_looks().files)
    places = [word.strip("{}") for word in words if word.startswith("{") and word != "{nodelist} {ngpus}"]
    assert "SLURM_JOB_ID" in places
    assert all(filled("{" + place + "}", {place: "7"}) == "7" for place in places)
    assert all(any(fnmatch(place, pattern) for pattern in all_looks().variables) for place in places)


def test_no_wanted_variable_is_a_secret_by_its_name() -> None:
    assert [name for name in all_looks().variables if names.secret(name)] == []


def test_what_proves_a_machine_is_recorded() -> None:
    wanted = all_looks().variables
    for machine in machines():
        names = [name for proof in machine.recognised for name in proof.variables]
        assert all(any(fnmatch(name, pattern) for pattern in wanted) for name in names), machine.name


def test_a_payload_gets_the_paths_of_its_user() -> None:
    assert set(basis.PASSED_ON) <= set(passed_on())
    assert {"SLURM_*", "PMI_*", "PATH", "http_proxy"} <= set(passed_on())


WANTED = st.builds(
    Looks,
    variables=st.lists(st.sampled_from("ABC")).map(tuple),
    files=st.lists(st.sampled_from(["/a", "/b"])).map(tuple),
    programs=st.lists(st.sampled_from("xyz")).map(tuple),
)


@given(st.lists(WANTED))
def test_a_union_is_the_same_in_any_order_and_names_each_once(many: list[Looks]) -> None:
    assert union(many) == union(reversed(many)) == union([union(many)])
    assert len(union(many).variables) == len(set(union(many).variables))
