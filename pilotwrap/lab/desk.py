"""What a call's handler works with."""

from dataclasses import dataclass

from pilotwrap.lab.store import Store
from pilotwrap.lab.tokens import Caller


@dataclass(frozen=True)
class Desk:
    """The database, who calls (None: nobody said), and the time in seconds since the epoch."""

    store: Store
    caller: Caller | None
    now: float

    @property
    def identity(self) -> str:
        """Return the caller's name."""
        return self.caller.identity if self.caller else ""

    @property
    def is_production(self) -> bool:
        """Tell whether the caller has the production role."""
        return self.caller is not None and self.caller.is_production
