"""What each pilot knows: the table's own order, and the borders between two releases."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.model.errors import PilotError
from pilotwrap.plan import pilotflags
from pilotwrap.plan.pilotflags import (
    NEWEST_READ,
    OLDEST,
    SHORT,
    FoundPython,
    cvmfs_switch,
    knows,
    parsed_version,
    python_for,
    shown,
    takes_resource_type,
)

OLD, NEW = (3, 7, 0, 36), (3, 11, 5, 1)


def found(*versions: str) -> list[FoundPython]:
    return [FoundPython(path=f"/python{text}", version=parsed_version(text)) for text in versions]


@pytest.mark.parametrize(
    ("flag", "before", "first"),
    [
        ("--baseurls", "3.7.9.1", "3.8.1.66"),
        ("-g", "3.7.9.1", "3.8.1.66"),
        ("-k", "3.7.9.1", "3.8.1.66"),
        ("--notokenrenewal", "3.9.1.13", "3.9.2.41"),
        ("--nocvmfs", "3.10.4.12", "3.10.5.57"),
        ("--stageout-attempts", "3.10.5.57", "3.11.0.29"),
    ],
)
def test_a_flag_is_known_from_the_release_that_brought_it(flag: str, before: str, first: str) -> None:
    assert not knows(parsed_version(before), flag)
    assert knows(parsed_version(first), flag)
    assert knows((4,), flag)


@pytest.mark.parametrize(
    "flag", ["--cvmfs", "--verifyproxy", "--updateserver", "--harvester-sub", "--realtime-logfiles"]
)
def test_what_no_release_has_or_an_abbreviation_is_not_known(flag: str) -> None:
    assert not knows(NEW, flag)


def test_every_short_name_is_that_of_a_flag_of_the_newest() -> None:
    assert [short for short in SHORT if not knows(NEWEST_READ, short)] == []
    assert knows(OLDEST, "-q")
    assert not knows((3, 6), "-q")


def test_cvmfs_is_switched_off_as_each_release_allows() -> None:
    releases = {"3.7.2.4": "unchecked", "3.7.3.84": "always", "3.7.5.4": "always", "3.7.6.8": "variable"}
    releases |= {"3.10.4.12": "variable", "3.10.5.57": "flag"}
    assert {text: cvmfs_switch(parsed_version(text)) for text in releases} == releases


def test_the_old_parser_takes_four_resource_types_and_the_new_one_any_of_two_families() -> None:
    assert takes_resource_type(OLD, "MCORE_HIMEM")
    assert not takes_resource_type(OLD, "MCORE_VHIMEM")
    assert takes_resource_type(NEW, "MCORE_VHIMEM")
    assert not takes_resource_type(NEW, "GPU")


@given(st.lists(st.integers(0, 999_999_999), min_size=2, max_size=5).map(tuple))
def test_a_version_shown_and_parsed_is_the_same(version: tuple[int, ...]) -> None:
    assert parsed_version(shown(version) + "\n") == version


@given(st.text())
def test_any_text_is_a_version_or_our_error(text: str) -> None:
    with contextlib.suppress(PilotError):
        assert all(part >= 0 for part in parsed_version(text))


def test_the_old_pilot_does_not_get_a_python_without_pipes() -> None:
    assert python_for(OLD, found("3.6.8", "3.13.0", "3.12.1", "3.9.18")).path == "/python3.12.1"
    assert python_for((3, 8, 1, 66), found("3.8.18", "3.13.0")).path == "/python3.13.0"
    assert python_for(NEW, found("3.6.8", "3.13.0")).path == "/python3.13.0"
    assert python_for((3, 7, 9, 1), found("3.8.18", "3.13.0", "3.12.1")).path == "/python3.12.1"


def test_no_fitting_python_says_what_is_there_and_what_is_needed() -> None:
    with pytest.raises(PilotError) as caught:
        python_for(OLD, found("3.13.0", "3.6.8"))
    assert "3.7 to 3.12" in caught.value.why
    assert "3.13.0 at /python3.13.0" in caught.value.why
    with pytest.raises(PilotError, match="none"):
        python_for(NEW, [])


def test_the_table_of_pythons_goes_from_new_to_old() -> None:
    firsts = [first for first, _, _ in pilotflags._PYTHONS]
    assert firsts == sorted(firsts, reverse=True)
    assert firsts[-1] == OLDEST
