"""Where a credential lies; never the credential itself."""

from typing import Literal

from pilotwrap.model.base import Value


class Credential(Value):
    """A file that is read again at each use."""

    kind: Literal["token", "x509"]
    path: str
    """Of the token's file, or of the X.509 proxy (certificate and key in one PEM file)."""

    origin: str | None = None
    """VO and role that the token speaks for, `VO.ROLE`; the server refuses a token without it."""
