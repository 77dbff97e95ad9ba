"""One line of text for people."""


def line_of(text: str) -> str:
    """Return outside text as one line; what a terminal would obey, or no encoding can write, is spelled out."""
    return "".join(char if char.isprintable() else _spelled(char) for char in " ".join(text.split()))


def _spelled(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
