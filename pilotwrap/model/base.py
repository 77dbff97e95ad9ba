"""The base of every value."""

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """A frozen value which refuses keys that it does not know and is built on first use."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        defer_build=True,
        populate_by_name=True,
        serialize_by_alias=True,
    )

    def to_json(self) -> str:
        """Return one line of JSON, keys by their contract names."""
        return self.model_dump_json(by_alias=True)


class Reading(Value):
    """A value read from another release or another program: unknown keys are dropped, not refused."""

    model_config = ConfigDict(extra="ignore")
