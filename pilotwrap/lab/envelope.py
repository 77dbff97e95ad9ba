"""What a call answers: the envelope, and the plain-text failures beside it."""

import json
from dataclasses import dataclass
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True)
class Envelope:
    """The answer of a call that was understood: HTTP 200, whether it succeeded or not."""

    success: bool
    message: str = ""
    data: Json = None

    def content(self) -> dict[str, Json]:
        """Return the three keys of the answer in the real server's order."""
        return {"success": self.success, "message": self.message, "data": self.data}

    def text(self, *, as_json: bool) -> str:
        """Return the body: JSON when the request asked for it, otherwise a Python repr, as the real server does."""
        return json.dumps(self.content()) if as_json else repr(self.content())


class PlainFailure(Exception):  # noqa: N818 - it is an answer, not an error of ours
    """An answer outside of the envelope: an HTTP status and a line of plain text."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(text)


def refused(message: str) -> Envelope:
    """Return the envelope of a call that was refused before any work."""
    return Envelope(success=False, message=message)


def done(data: Json = None, message: str = "") -> Envelope:
    """Return the envelope of a call that was carried out."""
    return Envelope(success=True, message=message, data=data)
