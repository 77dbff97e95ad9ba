"""Reads a credential at each use, and keeps what it read out of every text."""

import base64
import binascii
import json
import os
import stat
from datetime import datetime, timezone
from typing import Literal

from pilotwrap.model.credential import Credential
from pilotwrap.model.errors import CredentialError

MAX_CREDENTIAL_BYTES = 64 * 1024
"""A guess with room: a token is 1 to 2 KiB, a proxy chain some 10 KiB."""

_JWT_PARTS = 3
_FAR_FUTURE = 1e12
"""Seconds; what is beyond is no time."""


def credential_at(path: str, origin: str | None) -> Credential:
    """Return the credential that lies in a file; what it holds tells its kind. Raises CredentialError."""
    kind: Literal["token", "x509"] = "x509" if b"-----BEGIN " in _content(path) else "token"
    credential = Credential(kind=kind, path=path, origin=origin if kind == "token" else None)
    if kind == "token":
        origin_of(credential)
    return credential


def read_token(credential: Credential, now: float) -> str:
    """Return the token in the credential's file, without the blanks or newline at its ends.

    `now` is in seconds since the epoch. Raises CredentialError for a file that is missing, empty, readable by others
    or holds more than one word, and for a JWT that has expired.
    """
    token = _content(credential.path).decode("latin-1").strip()
    if not token:
        raise CredentialError(
            f"the token file {credential.path} is empty", remedy="fetch a new token and write it there"
        )
    if any(not "!" <= letter <= "~" for letter in token):
        raise CredentialError(
            f"the token file {credential.path} holds more than a token",
            why="there are blanks, newlines or other strange characters within it",
            remedy="leave one line with the token alone",
        )
    expires_at = expiry(token)
    if expires_at is not None and expires_at <= now:
        raise CredentialError(f"the token in {credential.path} expired at {_utc(expires_at)}", remedy="fetch a new one")
    return token


def origin_of(credential: Credential) -> str:
    """Return the VO and role that a token speaks for; the server refuses a token without them."""
    origin = (credential.origin or "").strip()
    if not origin or any(not "!" <= letter <= "~" for letter in origin):
        raise CredentialError(
            f"the token in {credential.path} has no origin" if not origin else f"origin {origin!r} is no VO.ROLE",
            why="the server refuses a token that does not say for which VO and role it speaks",
            remedy="give --origin VO.ROLE, e.g. atlas.production",
        )
    return origin


def proxy_file(credential: Credential) -> str:
    """Return the path of an X.509 proxy after a look at it: private, and with a certificate and a key."""
    content = _content(credential.path)
    missing = [part for part in (b"CERTIFICATE-----", b"PRIVATE KEY-----") if part not in content]
    if missing:
        raise CredentialError(
            f"{credential.path} is no X.509 proxy",
            why="a PEM file with both the certificate and its key is expected",
            remedy="make one with voms-proxy-init",
        )
    return credential.path


def expiry(token: str) -> float | None:
    """Return when a JWT expires, in seconds since the epoch; None for other tokens and those without an end."""
    claims = _claims(token)
    end = claims.get("exp") if isinstance(claims, dict) else None
    if isinstance(end, bool) or not isinstance(end, int | float):
        return None
    return float(end) if abs(end) < _FAR_FUTURE else None


def _claims(token: str) -> object:
    parts = token.split(".")
    if len(parts) != _JWT_PARTS:
        return None
    try:
        return json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None


def _content(path: str) -> bytes:
    descriptor = _opened(path)
    try:
        _refuse_open_files(path, os.fstat(descriptor).st_mode)
        content = os.read(descriptor, MAX_CREDENTIAL_BYTES + 1)
    except OSError as error:
        raise CredentialError(f"the credential {path} cannot be read", why=error.strerror or "") from None
    finally:
        os.close(descriptor)
    if len(content) > MAX_CREDENTIAL_BYTES:
        raise CredentialError(f"the credential {path} is too long", why=f"more than {MAX_CREDENTIAL_BYTES} bytes")
    return content


def _opened(path: str) -> int:
    try:
        # not blocking: a FIFO in its place would hold the whole run
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = str(error.strerror) if isinstance(error, OSError) else "the path holds a NUL character"
        raise CredentialError(
            f"the credential {path!r} cannot be read", why=why, remedy="check the path given as --credential"
        ) from None


def _refuse_open_files(path: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise CredentialError(f"the credential {path} is no file", remedy="check the path given as --credential")
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CredentialError(
            f"the credential {path} is open to others",
            why=f"its mode is {stat.S_IMODE(mode):04o}",
            remedy=f"chmod 600 {path}",
        )


def _utc(at: float) -> str:
    if not 0 <= at < 253402300800:  # noqa: PLR2004 - the year 10000, where datetime ends
        return f"{at:.0f} s after 1970"
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
