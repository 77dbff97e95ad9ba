"""The shim's modules, compiled once for all ranks of a run, and the few lines by which a rank runs them.

Each rank would open them one by one, or compile them out of the one file, which takes as long as Python's own start.
"""

import _imp
import marshal
import os
import sys

from pilotwrap.host import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Dict

PROGRAM = "shim.py"
CODES = "shim.codes"

# The modules that a shim may ask for; what they import themselves comes with them.
ASKED = ("onefile", "promise", "shim", "sink")

# What tells this Python's code from another's, as in its own .pyc files.
MAGIC = bytes(sys.modules["_frozen_importlib_external"].MAGIC_NUMBER)

HEAD = '''"""The rank shim of one run of pilotwrap: `python -I -S THIS ORDER.json`."""

import _imp
import marshal
import posix
import sys

CODES = {codes!r}
SOURCES = {sources!r}


def found():
    """Return the compiled modules; None where there are none, or not whole, or those of another Python."""
    check = getattr(_imp, "source_hash", lambda _key, data: b"%8d" % len(data))
    try:
        fd = posix.open(CODES, posix.O_RDONLY | posix.O_CLOEXEC)
        data = posix.read(fd, 1 << 24)
        posix.close(fd)
        if data[:4] == sys.modules["_frozen_importlib_external"].MAGIC_NUMBER and data[4:12] == check(0, data[12:]):
            return marshal.loads(data[12:])
    except (OSError, EOFError, TypeError, ValueError):
        pass
    return None


modules = found()
if modules is None:
    posix.execv(SOURCES[0], SOURCES + ["shim"] + sys.argv[1:])
own = {{"__name__": "pilotwrap.host.onefile"}}
exec(modules["pilotwrap.host.onefile"], own)
sys.meta_path.insert(0, own["Sources"](modules, CODES.decode("ascii", "replace")))

from pilotwrap.host import shim

shim.run(sys.argv[1])
'''


def write(folder: str) -> None:
    """Write both files into a folder that nobody else may write into; the program last, and never without the codes.

    Any user may read them, for ranks of another user than ours. Raises `OSError`.
    """
    data = marshal.dumps(modules())
    # Python 3.6 has no hash that it need not open a file for
    check = getattr(_imp, "source_hash", lambda _key, data: b"%8d" % len(data))
    base = wire.raw(os.path.abspath(folder)) + b"/"
    codes = base + wire.raw(CODES)
    _put(codes, MAGIC + check(0, data) + data)
    from pilotwrap.host.starter import host_argv  # after the modules: a shim needs none of the starter's

    sources = [os.fsencode(word) for word in host_argv()]
    _put(base + wire.raw(PROGRAM), HEAD.format(codes=codes, sources=sources).encode("ascii"))


def modules() -> "Dict[str, CodeType]":
    """Return the code of all modules of ours that a rank may need."""
    for name in ASKED:
        __import__("pilotwrap.host." + name)
    others = (__name__, "pilotwrap.host.__main__")
    found = [name for name in sys.modules if name.partition(".")[0] == "pilotwrap" and name not in others]
    return {name: _code(name) for name in found}


def _code(name: str) -> "CodeType":
    spec = sys.modules[name].__spec__
    code: "CodeType" = spec.loader.get_code(name)  # type: ignore[union-attr] # both loaders that ours have do
    return code


def _put(path: bytes, data: bytes) -> None:
    part = path + b".part"
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, 0o644)
        file.write(data)
    os.rename(part, path)
