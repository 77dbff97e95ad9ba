"""The first process of a PID namespace: `strangers.py granted|refused USER_ID SAID PROGRAM …`.

200 processes of the user, each the leader of its own session and group and with this one as its parent, sleep beside
the program, to which a PID namespace of its own is granted or refused by the kernel. When it has ended, SAID is a JSON
file of the strangers' ids before and after; the exit code is the program's.
"""

import ctypes
import json
import os
import sys
from pathlib import Path

COUNT = 200
CLONE_NEWUSER = 0x10000000
"""linux/sched.h"""


def stranger(user: int) -> int:
    """Start one whose own parent goes at once, and return its id."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgid(user)
        os.setuid(user)
        grandchild = os.fork()
        if grandchild == 0:
            os.setsid()
            os.write(writing, b"%d" % os.getpid())
            os.execv("/bin/sleep", ["sleep", "600"])  # noqa: S606 - an argv, as everywhere
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as said:
        return int(said.read())  # whose end is that of its last other holder: it sleeps now


def living(user: int) -> list[int]:
    """Return the user's sleepers whose parent is the first process of all, zombies not among them."""
    return sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and sleeps(entry, user))


def sleeps(entry: Path, user: int) -> bool:
    try:
        state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        sleeper = (entry / "cmdline").read_bytes() == b"sleep\x00600\x00"
        return sleeper and (state, parent) == ("S", "1") and entry.stat().st_uid == user
    except OSError:  # gone meanwhile
        return False


def refuse(mapped: int, entered: int) -> None:
    """Go where root is root and users are who they are, but the kernel allows no PID namespace any more."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    os.write(entered, b"x")
    os.read(mapped, 1)
    Path("/proc/sys/user/max_pid_namespaces").write_text("0")


def program(argv: list[str], *, refused: bool) -> int:
    """Start the program, and give its namespace's users their names from outside."""
    (mapped, map_it), (enter, entered) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        if refused:
            refuse(mapped, entered)
        os.execvp(argv[0], argv)  # noqa: S606 - an argv, as everywhere
    if refused:
        os.read(enter, 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{name}").write_text("0 0 65536")
        os.write(map_it, b"x")
    return pid


def main(user: int, said: Path, argv: list[str], *, refused: bool) -> int:
    started = sorted(stranger(user) for _ in range(COUNT))
    before = living(user)
    pid = program(argv, refused=refused)
    ended, status = 0, 0
    while ended != pid:
        ended, status = os.wait()  # whoever is orphaned here is ours to reap
    said.write_text(json.dumps({"started": started, "before": before, "after": living(user)}))
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:], refused=sys.argv[1] == "refused"))
