from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.lab.arguments import CHECKER_CRASH, ArgumentRefusedError, cast, checked, signature
from pilotwrap.lab.envelope import PlainFailure
from pilotwrap.lab.jobs import UPDATE_SIGNATURE

if TYPE_CHECKING:
    from pilotwrap.lab.envelope import Json

EXPECTED = signature("name:str count:int=1 speed:float=null rate:number=null ids:list=null anything:any=null")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({}, "Argument error: missing a required argument: 'name'"),
        ({"name": "a", "bogus": 1}, "Argument error: got an unexpected keyword argument 'bogus'"),
        ({"name": None}, "Type error: 'name' must be of type str, got NoneType."),
        ({"name": "a", "count": "1"}, "Type error: 'count' must be of type int, got str."),
        ({"name": "a", "count": 2.0}, "Type error: 'count' must be of type int, got float."),
        ({"name": "a", "count": None}, "Type error: 'count' must be of type int, got NoneType."),
        ({"name": "a", "speed": 2450}, "Type error: 'speed' must be of type float, got int."),
        ({"name": "a", "ids": "[]"}, "Type error: 'ids' must be of type list, got str."),
    ],
)
def test_wrong_arguments_are_refused_in_the_servers_words(given_: dict[str, Json], message: str) -> None:
    with pytest.raises(ArgumentRefusedError) as refusal:
        checked(EXPECTED, given_)
    assert str(refusal.value) == message


def test_a_value_equal_to_the_default_skips_the_check() -> None:
    assert checked(EXPECTED, {"name": "a", "count": 1.0}).value("count") == 1.0
    assert checked(EXPECTED, {"name": "a", "speed": None}).value("speed") is None


def test_a_bool_passes_as_an_int_and_anything_as_untyped() -> None:
    assert checked(EXPECTED, {"name": "a", "count": True, "anything": [1]}).integer("count") == 1


def test_a_wrong_number_crashes_the_checker_itself() -> None:
    with pytest.raises(PlainFailure) as failure:
        checked(EXPECTED, {"name": "a", "rate": "12"})
    assert (failure.value.status, failure.value.text) == (500, CHECKER_CRASH)


@given(st.dictionaries(st.sampled_from([each.name for each in UPDATE_SIGNATURE]), JSON, max_size=4))
def test_any_arguments_end_in_a_value_or_a_refusal(given_: dict[str, Json]) -> None:
    try:
        found = checked(UPDATE_SIGNATURE, given_)
    except (ArgumentRefusedError, PlainFailure):
        return
    assert found.text("job_status") == given_["job_status"]


def test_a_get_is_cast() -> None:
    assert cast(EXPECTED, {"name": "a", "count": "7", "ids": ["1", "2"]}).items("ids") == [1, 2]
    assert cast(EXPECTED, {"name": "a", "ids": "3"}).items("ids") == [3]
    with pytest.raises(ArgumentRefusedError, match=r"'ids' with value '\['1,2'\]' could not be casted to type List"):
        cast(EXPECTED, {"name": "a", "ids": "1,2"})
