import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.model.errors import BadInputError, StageInError, StageOutError
from pilotwrap.run.storage import StorageMap, parse_storage_map, read_storage_map


def test_an_endpoint_stands_for_its_prefix() -> None:
    storage = parse_storage_map('{"A": "file:///a/", "B": "https://host:8443/x", "": "http://all/"}', "s")
    assert storage.url("A", "f.dat") == "file:///a/f.dat"
    assert storage.url("B", "f.dat") == "https://host:8443/x/f.dat"
    assert storage.url("C", "f.dat") == storage.url("", "f.dat") == "http://all/f.dat"


def test_a_name_is_quoted_in_its_url() -> None:
    assert StorageMap(prefixes={"": "http://h/"}).url("", "a%2F..+b") == "http://h/a%252F..%2Bb"


@pytest.mark.parametrize("error", [StageInError, StageOutError])
def test_an_unknown_endpoint_says_what_to_add(error: type[StageInError | StageOutError]) -> None:
    with pytest.raises(error) as caught:
        StorageMap(prefixes={"A": "file:///a/"}).url("NEW", "f", error)
    assert '"NEW": "URL"' in caught.value.remedy
    assert "it has: A" in caught.value.why


@pytest.mark.parametrize("name", ["../x", "a/b", "-x", ".x", "", "x\0"])
def test_an_unsafe_name_gets_no_url(name: str) -> None:
    with pytest.raises(StageOutError, match="not a plain file name"):
        StorageMap(prefixes={"": "file:///a/"}).url("", name, StageOutError)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not a JSON object"),
        ("3", "is not a JSON object"),
        ('{"A": 3}', "'A' is not text"),
        ('{"A": {"B": "file:///x/"}}', "'A' is not text"),
        ('{"A": "file:///a/", "A": "file:///b/"}', "'A' is there twice"),
        ('{"A": "file:a/"}', "'A' is 'file:a/'"),
        ('{"A": "file://other/a/"}', "'A' is 'file://other/a/'"),
        ('{"A": "/data/"}', "'A' is '/data/'"),
        ('{"A": "root://host//data/"}', "'A' is 'root://host//data/'"),
        ('{"A": "http:///data/"}', "'A' is 'http:///data/'"),
        ('{"A": "http://[x/"}', "'A' is not a URL"),
        ('{"A": "https://me:pw@host/"}', "'A' holds a query, a fragment or a user"),
        ('{"A": "https://host/?sig=pw"}', "'A' holds a query, a fragment or a user"),
    ],
)
def test_a_wrong_map_names_file_key_and_what_was_expected(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "storage.json"
    path.write_text(text)
    with pytest.raises(BadInputError) as caught:
        read_storage_map(path)
    assert words in caught.value.what
    assert str(path) in caught.value.what
    assert "pw" not in str(caught.value)
    assert (
        "expected" in caught.value.remedy or "keep one" in caught.value.remedy or "plain prefix" in caught.value.remedy
    )


def test_a_map_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="cannot be read"):
        read_storage_map(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInputError, match="cannot be read"):
        read_storage_map(tmp_path / "binary")


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
_URLS = st.sampled_from(["file:///a/", "http://h/", "https://h:1/p", "file:", "//", "http://[", "http://h:x/"])


@given(value=_JSON | st.dictionaries(st.text(), _URLS | st.text()))
def test_any_json_is_a_map_or_our_error(value: object) -> None:
    try:
        storage = parse_storage_map(json.dumps(value), "s")
    except BadInputError:
        return
    assert isinstance(value, dict)
    assert set(storage.prefixes) == set(value)
    assert all(storage.url(endpoint, "f").endswith("/f") for endpoint in storage.prefixes)


@given(text=st.text())
def test_any_text_is_a_map_or_our_error(text: str) -> None:
    with suppress(BadInputError):
        parse_storage_map(text, "s")
