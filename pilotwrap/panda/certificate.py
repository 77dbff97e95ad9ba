"""How long an X.509 proxy lasts: the validity of the certificates in a PEM file, and nothing else of them."""

import base64
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from pilotwrap.model.credential import Credential
from pilotwrap.model.errors import CredentialError
from pilotwrap.panda.credentials import proxy_file

_PEM = re.compile(b"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)

_INTEGER, _UTC_TIME, _GENERALIZED_TIME, _SEQUENCE, _VERSION = 0x02, 0x17, 0x18, 0x30, 0xA0
"""Tags of X.690, section 8, in the places where RFC 5280, section 4.1, has them."""

_LONG_FORM = 0x80
_MAX_LENGTH_BYTES = 4
_CENTURY = 50
"""A UTCTime's year from 50 on is of the 1900s (RFC 5280, section 4.1.2.5.1)."""


class Validity(NamedTuple):
    """Seconds since the epoch, between which a whole chain is valid."""

    begins: float
    ends: float


class _Element(NamedTuple):
    tag: int
    start: int
    end: int


def proxy_validity(credential: Credential) -> Validity:
    """Return when an X.509 proxy is valid; raises CredentialError for a file that is none, or that others can read."""
    path = Path(proxy_file(credential))
    try:
        return validity(path.read_bytes())
    except OSError as error:
        raise CredentialError(f"the credential {path} cannot be read", why=error.strerror or "") from None
    except ValueError as error:
        raise CredentialError(
            f"the certificate in {path} cannot be read", why=str(error), remedy="make a new proxy with voms-proxy-init"
        ) from None


def validity(pem: bytes) -> Validity:
    """Return when all certificates of a PEM text are valid together; ValueError when there is none, or a broken one.

    A proxy's chain holds the certificates that signed it, and dies with the first of them (RFC 3820).
    """
    spans = [_span(base64.b64decode(text)) for text in _PEM.findall(pem)]
    if not spans:
        raise ValueError("no certificate is in it")
    return Validity(max(span.begins for span in spans), min(span.ends for span in spans))


def _span(der: bytes) -> Validity:
    body = _inside(der, _expected(der, 0, _SEQUENCE))
    at = body.start
    if _element(der, at).tag == _VERSION:
        at = _element(der, at).end
    for tag in (_INTEGER, _SEQUENCE, _SEQUENCE):  # serial number, signature algorithm, issuer
        at = _expected(der, at, tag).end
    begins = _element(der, _expected(der, at, _SEQUENCE).start)
    return Validity(_time(der, begins), _time(der, _element(der, begins.end)))


def _inside(der: bytes, outer: _Element) -> _Element:
    return _expected(der, outer.start, _SEQUENCE)


def _expected(der: bytes, at: int, tag: int) -> _Element:
    found = _element(der, at)
    if found.tag != tag:
        raise ValueError(f"byte {at} has tag {found.tag:#x}, not {tag:#x}")
    return found


def _element(der: bytes, at: int) -> _Element:
    head = der[at : at + 2]
    if len(head) < 2:  # noqa: PLR2004 - a tag and a length
        raise ValueError("it is cut off")
    start, length = at + 2, head[1]
    if length & _LONG_FORM:
        count = length - _LONG_FORM
        if not 0 < count <= _MAX_LENGTH_BYTES:
            raise ValueError(f"byte {at} has no length")
        length = int.from_bytes(der[start : start + count], "big")
        start += count
    if start + length > len(der):
        raise ValueError("it is cut off")
    return _Element(head[0], start, start + length)


def _time(der: bytes, element: _Element) -> float:
    text = der[element.start : element.end].decode("ascii", "replace")
    if element.tag == _UTC_TIME and text[:2].isdigit():
        text = ("19" if int(text[:2]) >= _CENTURY else "20") + text
    elif element.tag != _GENERALIZED_TIME:
        raise ValueError(f"tag {element.tag:#x} is no time")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()
