"""Tokens of the lab: who calls and in which role. They look like JSON web tokens and mean nothing elsewhere."""

import base64
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from pilotwrap.lab.envelope import PlainFailure
from pilotwrap.lab.store import Store

PRODUCTION = "production"
_DAY_S = 86_400.0
_JWT_SEGMENTS = 3


@dataclass(frozen=True)
class Caller:
    """Who calls, in the role that the request's Origin asked for."""

    identity: str
    role: str = ""

    @property
    def is_production(self) -> bool:
        """Tell whether the caller may report jobs; `pilot` is not enough, whatever the server's text says."""
        return self.role == PRODUCTION


@dataclass(frozen=True)
class Grant:
    """What a token is to be good for; no role lets its holder fetch its own user jobs, and report none."""

    identity: str
    vo: str = "lab"
    roles: tuple[str, ...] = ()
    lifetime_s: float = 30 * _DAY_S


def make_token(store: Store, grant: Grant, now: float) -> str:
    """Return a new token; a lifetime of 0 or less gives one that has expired."""
    header = _segment({"alg": "none", "typ": "JWT"})
    body = _segment({"sub": grant.identity, "exp": int(now + grant.lifetime_s), "iss": "pilotwrap-lab"})
    token = f"{header}.{body}.{secrets.token_urlsafe(24)}"
    store.write(
        "INSERT INTO tokens VALUES (?, ?, ?, ?, ?)",
        token,
        grant.identity,
        grant.vo,
        " ".join(grant.roles),
        now + grant.lifetime_s,
    )
    return token


def write_token(token: str, path: Path) -> None:
    """Write a token file that only its owner can read, in a folder that only its owner can enter."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(token + "\n")
    fresh.replace(path)


def is_live(store: Store, token: str, now: float) -> bool:
    """Tell whether a token is known here and has not expired."""
    row = store.row("SELECT expires FROM tokens WHERE token = ?", token)
    return row is not None and float(row["expires"]) > now


def caller_of(store: Store, authorization: str, origin: str | None, now: float) -> Caller | None:
    """Return who calls; None without a token. Raises PlainFailure 403 in the real server's words."""
    kind, _, token = authorization.partition(" ")
    if kind != "Bearer":
        return None
    if origin is None:
        raise _failed("Token decode failure. 'NoneType' object has no attribute 'replace'")
    vo, _, role = origin.replace(":", ".").partition(".")
    if store.row("SELECT 1 FROM tokens WHERE vo = ?", vo) is None:
        raise _failed(f"Unknown vo : {vo}")
    row = store.row("SELECT * FROM tokens WHERE token = ?", token.strip())
    if row is None:
        segments = token.count(".") + 1
        raise _failed(
            "Invalid token. Not enough segments"
            if segments < _JWT_SEGMENTS
            else "Invalid token. Signature verification failed"
        )
    if float(row["expires"]) <= now:
        raise _failed("Invalid token. Signature has expired")
    if row["vo"] != vo or (role and role not in str(row["roles"]).split()):
        raise _failed(f"Not a member of the {vo}/{role} group")
    return Caller(str(row["identity"]), role)


def _failed(why: str) -> PlainFailure:
    return PlainFailure(403, f"ERROR : Token authentication failed. {why}")


def _segment(content: dict[str, str | int]) -> str:
    text = json.dumps(content, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
