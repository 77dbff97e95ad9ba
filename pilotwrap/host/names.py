"""Which variables may pass: patterns, and the names that look like a secret's."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Iterable

SECRET_WORDS = ("TOKEN", "SECRET", "PASSW", "KEY", "COOKIE", "JWT", "CREDENTIAL")


def secret(name: str) -> bool:
    """Whether a variable of this name must never be recorded or passed on."""
    upper = name.upper()
    return any(word in upper for word in SECRET_WORDS)


def chosen(environment: "Dict[str, str]", patterns: "Iterable[str]") -> "Dict[str, str]":
    """Return the variables which a pattern allows (a trailing `*` is a prefix) and whose name is no secret's.

    One that is named in full passes all the same: it is meant (the wiring of an MPI, `PMI_SHARED_SECRET`).
    """
    wanted = list(patterns)
    exact = {pattern for pattern in wanted if not pattern.endswith("*")}
    prefixes = tuple(pattern[:-1] for pattern in wanted if pattern.endswith("*"))
    return {
        name: value
        for name, value in environment.items()
        if name in exact or (name.startswith(prefixes) and not secret(name))
    }
