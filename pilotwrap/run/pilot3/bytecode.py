"""The bytecode of an unpacked pilot, for a user who may not write it there."""

import contextlib
import subprocess
from pathlib import Path

from pilotwrap.plan.pilotflags import FoundPython

COMPILE_S = 60.0
"""A guess; 0.2 s of CPU time were measured. Without it every pilot compiles itself anew: 0.15 s (measured)."""

READABLE = 0o022
"""The mask of what is written: others read it, and may pass its folders."""


def compile_for(python: FoundPython, directory: str) -> None:
    """Let this Python compile what lies there, unless somebody does so or has done so; nothing of it is run.

    What fails is left: a pilot runs without it too. One process does it, whatever nodes share the folder: two that
    compile the same file at once write over each other, and the pilots that read it then end at once (seen).
    """
    tag = f"cpython-{python.version[0]}{python.version[1]}"
    try:
        (Path(directory) / f".compiled-{tag}").touch(mode=0o644, exist_ok=False)
    except OSError:
        return
    argv = [python.path, "-I", "-S", "-m", "compileall", "-q", directory]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMPILE_S, umask=READABLE, check=True
        )
