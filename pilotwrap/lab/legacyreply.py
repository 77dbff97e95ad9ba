"""A legacy call's reply: url-encoded, or JSON for who accepts it. Pure."""

import json
from dataclasses import dataclass, field
from urllib.parse import urlencode

from pilotwrap.lab.envelope import Json

JSON = "application/json"
TEXT = "text/plain"


@dataclass(frozen=True)
class Reply:
    """Fields with their status code, or a bare line of text; a dialogue is only for who accepts JSON."""

    fields: dict[str, Json] = field(default_factory=dict)
    dialogue: str = ""
    text: str = ""
    never_json: bool = False

    def encoded(self, *, as_json: bool) -> tuple[str, str]:
        """Return the body and its media type; a url-encoded null is the word None, and a bulk's jobs are JSON text."""
        if self.text:
            return self.text, TEXT
        if as_json and not self.never_json:
            dialogue: dict[str, Json] = {"errorDialog": self.dialogue} if self.dialogue else {}
            return json.dumps({**self.fields, **dialogue}), JSON
        jobs = self.fields.get("jobs")
        return urlencode(self.fields if jobs is None else {**self.fields, "jobs": json.dumps(jobs)}), TEXT
