"""One line of shell-quoted words into an argv, as `shlex.split` would, without the 90 files that `shlex` opens."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator, List


def split(text: str) -> "List[str]":
    """Return the words of a line; an open quote or a lone backslash at its end is a `ValueError`."""
    found: "List[str]" = []
    word = ""
    begun = False
    rest = iter(text)
    for char in rest:
        if char in " \t\r\n":
            if begun:
                found.append(word)
            word, begun = "", False
            continue
        begun = True
        if char in "'\"":
            word += _quoted(rest, char)
        elif char == "\\":
            word += _next(rest)
        else:
            word += char
    if begun:
        found.append(word)
    return found


def _next(rest: "Iterator[str]") -> str:
    for char in rest:
        return char
    raise ValueError("nothing follows the last backslash")


def _quoted(rest: "Iterator[str]", quote: str) -> str:
    inside = ""
    for char in rest:
        if char == quote:
            return inside
        if char == "\\" and quote == '"':
            after = _next(rest)
            inside += after if after in '"\\' else "\\" + after
        else:
            inside += char
    raise ValueError("a quote is not closed: " + quote)
