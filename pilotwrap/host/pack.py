"""The host part as one file: a zip that Python runs, the same bytes from every machine and Python."""

import io
import os
import zipfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Tuple

# The earliest time that a zip can hold.
EPOCH = (1980, 1, 1, 0, 0, 0)

# It makes the file; it is no part of it.
LEFT_OUT = ("pack.py",)


def members() -> "List[Tuple[str, str]]":
    """Return (name in the zip, path) of all that goes into it, in its order."""
    here = os.path.dirname(os.path.abspath(__file__))
    found = [("__main__.py", os.path.join(here, "__main__.py"))]
    found.append(("pilotwrap/__init__.py", os.path.join(os.path.dirname(here), "__init__.py")))
    modules = [name for name in sorted(os.listdir(here)) if name.endswith(".py") and name not in LEFT_OUT]
    return found + [("pilotwrap/host/" + name, os.path.join(here, name)) for name in modules]


def packed() -> bytes:
    """Return the one file's bytes. Stored, not compressed: zlib's versions differ, and importing it costs calls."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for name, path in members():
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system = 3  # Unix, whatever the machine
            info.external_attr = 0o644 << 16
            with open(path, "rb") as source:
                archive.writestr(info, source.read())
    return b"#!/usr/bin/env python3\n" + whole.getvalue()
