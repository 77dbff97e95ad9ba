"""The host's own small parsers, against the library's where there is one."""

import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.host import cpulist, names, sink, starter, wire, words

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_a_line_is_json_and_comes_back(message: dict[str, object]) -> None:
    line = wire.line(message)
    assert line.count(b"\n") == 1
    assert json.loads(line) == message
    assert wire.message(line) == message


@given(st.binary(max_size=40) | st.text(alphabet='{}[]":,0 tfn\\', max_size=20).map(str.encode))
def test_any_bytes_are_a_message_or_garbled(data: bytes) -> None:
    try:
        message = wire.message(data)
    except wire.GarbledError:
        return
    assert message == json.loads(data)


@given(st.text(alphabet="ab '\"\\\t", max_size=20))
def test_words_are_split_as_a_shell_would(text: str) -> None:
    try:
        expected = shlex.split(text)
    except ValueError:
        with pytest.raises(ValueError, match=r"quote is not closed|last backslash"):
            words.split(text)
        return
    assert words.split(text) == expected


@given(st.lists(st.text(max_size=6), max_size=5))
def test_quoted_words_come_back(argv: list[str]) -> None:
    assert words.split(shlex.join(argv)) == argv


@given(st.sets(st.integers(0, 300)))
def test_a_cpu_list_comes_back(cpus: set[int]) -> None:
    assert cpulist.numbers(cpulist.written(cpus)) == cpus


def test_a_cpu_list_is_written_as_the_kernel_does() -> None:
    assert cpulist.written([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert cpulist.written([]) == ""


@given(st.binary(max_size=30))
def test_bytes_of_a_path_survive_the_wire(data: bytes) -> None:
    line = wire.line({"path": wire.cooked(data)})
    assert wire.raw(wire.text(wire.message(line), "path")) == data


@given(st.dictionaries(st.text(alphabet="AB_KEYTOKEN", max_size=8), st.just("v"), max_size=8))
def test_no_pattern_lets_a_secret_name_through(environment: dict[str, str]) -> None:
    for patterns in (["*"], [f"{name[:-1]}*" for name in environment], ["A*", "K*", "T*"]):
        assert not [name for name in names.chosen(environment, patterns) if names.secret(name)]


def test_a_name_in_full_is_meant_whatever_it_says() -> None:
    environment = {"PMI_SHARED_SECRET": "1", "PMI_OTHER_SECRET": "2"}
    assert names.chosen(environment, ["PMI_*", "PMI_SHARED_SECRET"]) == {"PMI_SHARED_SECRET": "1"}


@pytest.mark.parametrize(
    ("given_words", "expected"),
    [
        (["--a", "--enter", "x 'y z'", "b"], (["--a", "b"], ["x", "y z"])),
        (["--enter=x y"], ([], ["x", "y"])),
        (["a", "--", "b"], (["a", "--", "b"], [])),
    ],
)
def test_only_the_way_in_is_taken_from_the_words(given_words: list[str], expected: tuple[list[str], list[str]]) -> None:
    assert starter.parted(given_words) == expected


@given(st.lists(st.binary(max_size=90_000), max_size=5), st.integers(0, 100_000))
def test_a_sink_bounds_its_file_and_loses_only_the_middle(chunks: list[bytes], cap: int) -> None:
    import tempfile

    whole = b"".join(chunks)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "out")
        file = sink.Sink(str(path), cap)
        for chunk in chunks:
            file.feed(chunk)
        file.close()
        data = path.read_bytes()
    assert data.startswith(whole[:cap])
    assert len(data) <= cap + sink.TAIL + 100
    if file.cut:
        assert data.endswith(whole[-sink.TAIL :])
        assert len(whole) == cap + file.cut + sink.TAIL
    else:
        assert data == whole


@pytest.mark.parametrize("value", [None, 3, True, [], {}, [1], ["a", None]])
def test_a_value_of_another_kind_is_garbled(value: object) -> None:
    held = {"k": value}
    if not isinstance(value, str):
        with pytest.raises(wire.GarbledError):
            wire.text(held, "k")
    if isinstance(value, bool) or not isinstance(value, int):
        with pytest.raises(wire.GarbledError):
            wire.number(held, "k")
    if value not in (None, []):
        with pytest.raises(wire.GarbledError):
            wire.texts(held, "k")
