from __future__ import annotations

import base64
import calendar
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.model.credential import Credential
from pilotwrap.model.errors import CredentialError
from pilotwrap.panda.certificate import Validity, proxy_validity, validity

from .proxies import made_proxy, openssl

LOOPBACK = Path(__file__).parent / "loopback.pem"
EDGES = [
    (0.0, 86_400.0),
    (1_700_000_000.0, 1_800_000_000.0),
    (2_524_607_999.0, 2_524_608_000.0),  # around 2050, where the certificate's kind of time changes
    (2_524_608_000.0, 4_000_000_000.0),
]


@pytest.mark.parametrize(("begins", "ends"), EDGES)
def test_a_certificate_is_valid_when_openssl_says_so(tmp_path: Path, begins: float, ends: float) -> None:
    path = made_proxy(tmp_path / "ca", begins, ends)
    said = openssl("x509", "-noout", "-enddate", "-in", str(path)).strip().removeprefix("notAfter=")
    assert calendar.timegm(time.strptime(said, "%b %d %H:%M:%S %Y GMT")) == ends
    assert validity(path.read_bytes()) == (begins, ends)


def test_a_chain_lasts_as_long_as_its_shortest_part(tmp_path: Path) -> None:
    one, two = made_proxy(tmp_path / "1", 100.0, 5000.0), made_proxy(tmp_path / "2", 2000.0, 9000.0)
    together = one.read_bytes() + two.read_bytes()
    assert validity(together) == Validity(2000.0, 5000.0)
    assert validity(two.read_bytes() + one.read_bytes()) == Validity(2000.0, 5000.0)


def test_a_proxy_without_a_readable_certificate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "proxy.pem"
    path.touch(mode=0o600)
    path.write_bytes(
        LOOPBACK.read_bytes().replace(b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN CERTIFICATE-----\nAA")
    )
    with pytest.raises(CredentialError, match=r"cannot be read: .*voms-proxy-init"):
        proxy_validity(Credential(kind="x509", path=str(path)))


def test_a_proxy_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "proxy.pem"
    path.write_bytes(LOOPBACK.read_bytes())
    path.chmod(0o640)
    with pytest.raises(CredentialError, match="chmod 600"):
        proxy_validity(Credential(kind="x509", path=str(path)))


DER = base64.b64decode(
    LOOPBACK.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")[2].partition(b"-----END CERTIFICATE-----")[0]
)


def pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


@given(st.one_of(st.binary(), st.binary().map(pem)))
def test_any_bytes_end_in_a_validity_or_a_value_error(content: bytes) -> None:
    try:
        found = validity(content)
    except ValueError:
        return
    assert isinstance(found, Validity)


@given(st.integers(0, len(DER) - 1), st.integers(0, 255))
def test_a_changed_byte_ends_in_a_validity_or_a_value_error(at: int, byte: int) -> None:
    try:
        found = validity(pem(DER[:at] + bytes([byte]) + DER[at + 1 :]))
    except ValueError:
        return
    assert isinstance(found, Validity)


@given(st.integers(0, len(DER) - 1))
def test_a_cut_certificate_is_no_certificate(at: int) -> None:
    with pytest.raises(ValueError, match=r"cut off|no time|tag|length|certificate|time data|padding"):
        validity(pem(DER[:at]))
