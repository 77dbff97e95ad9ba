"""The user's own machine files, as they are: the image need not see where they lie."""

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional

# Within XDG_CONFIG_HOME, else ~/.config (XDG Base Directory Specification).
FOLDER = "pilotwrap/machines"

# Four times the longest of the known machines' files, and a file a kind of node that one user ever saw (guesses).
FILE_MOST = 65536
FILES_MOST = 64


def folder(environment: "Dict[str, str]") -> str:
    """Return where the user's machine files are, whether there are any or not."""
    configured = environment.get("XDG_CONFIG_HOME", "")
    if not configured.startswith("/"):
        configured = os.path.join(environment.get("HOME") or "/", ".config")
    return os.path.join(configured, FOLDER)


def texts(environment: "Dict[str, str]") -> "Dict[str, Optional[str]]":
    """Return each file's path and text; null stands for one that cannot be read as text, or is too long."""
    place = folder(environment)
    return {path: _text(path) for path in (os.path.join(place, name) for name in _names(place))}


def _names(place: str) -> "List[str]":
    try:
        return sorted(name for name in os.listdir(place) if name.endswith(".toml"))[:FILES_MOST]
    except OSError:
        return []


def _text(path: str) -> "Optional[str]":
    try:
        # a pipe with no writer would be waited for without end
        if not stat.S_ISREG(os.stat(path).st_mode):
            return None
        with open(path, "rb") as file:
            text = file.read(FILE_MOST + 1)
        return text.decode("utf-8") if len(text) <= FILE_MOST else None
    except (OSError, UnicodeDecodeError):
        return None
