"""The starter: it starts the controller, observes meanwhile, and does what the controller asks until it says `finish`.

It has no opinion and reads none of the words but `--enter`, and `--part`, with which its head has told all else.
"""

import os
import sys

from pilotwrap import __version__
from pilotwrap.host import machinefiles, subreaper, wire, words
from pilotwrap.host.controller import start_controller
from pilotwrap.host.launch import ALL_SIGNALS, LaunchError, own_environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import List, Tuple
else:
    import _signal

BAD_INPUT_EXIT = 2
IMAGE_EXIT = 3

IN_IMAGE = ["pilotwrap", "controller"]


def main(given: "List[str]", controller: "List[str]") -> int:
    """Run with these words and return the exit code; `controller` starts one here, if none is to be entered for it.

    `--enter X` (shell-quoted) in the words is the way into the image, where `pilotwrap controller` is started.
    """
    try:
        rest, enter = parted(given)
    except ValueError as error:
        return _refuse(BAD_INPUT_EXIT, "--enter cannot be read: %s" % error)
    argv = enter + IN_IMAGE if enter else controller
    if not argv:
        return _refuse(
            BAD_INPUT_EXIT, 'the one-file starter needs the way into the image: --enter "apptainer exec IMAGE"'
        )
    _secure_descriptors()
    subreaper.become()
    hello = {
        "event": "hello",
        "protocol": wire.PROTOCOL,
        "version": __version__,
        "self": host_argv(),
        "cwd": os.getcwd(),
        "pid": os.getpid(),
        "words": rest,
        "tty": os.isatty(2),
        "enter": enter,
        "machines": {} if "--part" in rest else machinefiles.texts(own_environment()),
    }
    # until the loop that hears signals is there, none may end us: what was started would go on alone for a while
    _signal.pthread_sigmask(_signal.SIG_BLOCK, ALL_SIGNALS)
    try:
        started = start_controller(argv)
    except LaunchError as error:
        return _refuse(IMAGE_EXIT, "cannot %s: %s; is the way into the image right?" % (error.what, error.strerror))
    # loaded while the controller loads its own
    from pilotwrap.host.starting import Starter

    return Starter(argv, started, hello).run()


def parted(given: "List[str]") -> "Tuple[List[str], List[str]]":
    """Return all words but `--enter X`, and X as an argv; `ValueError` when X is missing or ill quoted."""
    rest: "List[str]" = []
    enter: "List[str]" = []
    waiting = iter(given)
    for word in waiting:
        if word == "--enter":
            enter = words.split(next(waiting, ""))
            if not enter:
                raise ValueError("no words follow it")
        elif word.startswith("--enter="):
            enter = words.split(word[len("--enter=") :])
        else:
            rest.append(word)
    return rest, enter


def host_argv() -> "List[str]":
    """Return the argv that starts this host part again, from its one file or from the package."""
    archive = getattr(globals().get("__loader__"), "archive", None)
    place = archive or os.path.join(os.path.dirname(__file__), "__main__.py")
    return [sys.executable, "-I", "-S", os.path.abspath(place)]


def _secure_descriptors() -> None:
    """Have 0, 1 and 2 open, and nothing else inherited by what is started."""
    present = {int(name) for name in os.listdir("/proc/self/fd")}
    for fd in (0, 1, 2):
        if fd not in present:
            os.dup2(os.open(os.devnull, os.O_RDWR), fd)
    for fd in present - {0, 1, 2}:
        try:
            os.set_inheritable(fd, False)  # noqa: FBT003 - the only way to call it
        except OSError:  # noqa: PERF203 - the listing's own descriptor
            continue


def _refuse(code: int, text: str) -> int:
    print("pilotwrap: " + text, file=sys.stderr)
    return code
