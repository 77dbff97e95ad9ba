"""Counts in outside text."""

MAX_DIGITS = 18
"""What fits 64 bits; longer ones are no count, and `int` itself refuses more than 4,300."""


def number_of(text: str | None) -> int | None:
    """Return the count that a text is, blanks around it aside; None for anything else, other scripts' digits too."""
    digits = (text or "").strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS else None
