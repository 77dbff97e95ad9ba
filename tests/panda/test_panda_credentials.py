from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.model.credential import Credential
from pilotwrap.model.errors import CredentialError
from pilotwrap.panda.credentials import credential_at, expiry, origin_of, proxy_file, read_token

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_700_000_000.0


def token_file(tmp_path: Path, content: bytes, mode: int = 0o600) -> Credential:
    path = tmp_path / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return Credential(kind="token", path=str(path), origin="atlas.production")


def jwt(claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJub25lIn0.{payload}.c2lnbmF0dXJl"


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n  "])
def test_a_trailing_newline_is_no_part_of_the_token(tmp_path: Path, end: bytes) -> None:
    assert read_token(token_file(tmp_path, b"abc.def" + end), NOW) == "abc.def"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"first\nsecond\n", "more than a token"),
        (b"first second", "more than a token"),
        (b"nul\0nul", "more than a token"),
        (b"x" * 70_000, "too long"),
    ],
)
def test_a_file_that_is_no_token_is_refused(tmp_path: Path, content: bytes, text: str) -> None:
    with pytest.raises(CredentialError, match=text) as caught:
        read_token(token_file(tmp_path, content), NOW)
    for word in (content.decode("latin-1").split() or ["-"])[:1]:
        assert word[:4] == "-" or word[:12] not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644, 0o601])
def test_a_token_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    credential = token_file(tmp_path, b"abc", mode)
    with pytest.raises(CredentialError) as caught:
        read_token(credential, NOW)
    assert caught.value.remedy == f"chmod 600 {credential.path}"
    assert f"{mode:04o}" in str(caught.value)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_token_is_read(tmp_path: Path, mode: int) -> None:
    assert read_token(token_file(tmp_path, b"abc", mode), NOW) == "abc"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    missing = Credential(kind="token", path=str(tmp_path / "none"), origin="a.b")
    with pytest.raises(CredentialError, match="No such file"):
        read_token(missing, NOW)
    with pytest.raises(CredentialError, match="NUL"):
        read_token(Credential(kind="token", path="a\0b", origin="a.b"), NOW)


def test_a_directory_and_a_fifo_are_no_token_and_do_not_hang(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    for path in (tmp_path, fifo):
        with pytest.raises(CredentialError, match="is no file"):
            read_token(Credential(kind="token", path=str(path), origin="a.b"), NOW)


def test_an_expired_jwt_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    credential = token_file(tmp_path, jwt({"exp": NOW - 1}).encode())
    with pytest.raises(CredentialError, match=r"expired at 2023-11-14 22:13:19 UTC"):
        read_token(credential, NOW)


@pytest.mark.parametrize("claims", [{"exp": NOW + 60}, {}, [], {"exp": "soon"}, {"exp": True}, {"exp": 1e300}])
def test_a_jwt_without_a_past_end_is_sent(tmp_path: Path, claims: object) -> None:
    token = jwt(claims)
    assert read_token(token_file(tmp_path, token.encode()), NOW) == token


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=80))
def test_any_token_has_an_end_or_none(token: str) -> None:
    end = expiry(token)
    assert end is None or abs(end) < 1e12


@given(st.dictionaries(st.sampled_from(["exp", "sub"]), st.floats() | st.integers() | st.text() | st.none()))
def test_any_claims_have_an_end_or_none(claims: dict[str, object]) -> None:
    end = expiry(jwt(claims))
    assert end is None or abs(end) < 1e12


@pytest.mark.parametrize("origin", [None, "", " ", "atlas production", "atlas\nX-Evil: 1"])
def test_a_token_without_a_usable_origin_is_refused(origin: str | None) -> None:
    with pytest.raises(CredentialError, match="--origin VO"):
        origin_of(Credential(kind="token", path="x", origin=origin))


def test_a_proxy_holds_a_certificate_and_a_key(tmp_path: Path, pem: Path) -> None:
    whole = token_file(tmp_path, pem.read_bytes())
    assert proxy_file(whole) == whole.path
    half = token_file(tmp_path, pem.read_bytes().partition(b"-----BEGIN PRIVATE")[0])
    with pytest.raises(CredentialError, match=r"is no X\.509 proxy"):
        proxy_file(half)


def test_the_kind_of_a_credential_is_told_by_its_content(tmp_path: Path, pem: Path) -> None:
    assert credential_at(token_file(tmp_path, b"abc").path, "a.b").kind == "token"
    with pytest.raises(CredentialError, match="has no origin"):
        credential_at(token_file(tmp_path, b"abc").path, None)
    assert credential_at(token_file(tmp_path, pem.read_bytes()).path, None).kind == "x509"
