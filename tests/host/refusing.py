"""Start a program where the kernel refuses what a PID namespace needs: `refusing.py limit|masked PROGRAM …`."""

import ctypes
import os
import sys
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000

libc = ctypes.CDLL(None, use_errno=True)


def checked(answer: int) -> None:
    if answer != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def enter() -> None:
    uid, gid = os.getuid(), os.getgid()
    checked(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


enter()
if sys.argv[1] == "limit":
    for name in ("max_user_namespaces", "max_pid_namespaces"):
        Path("/proc/sys/user", name).write_text("0")
else:
    # as container runtimes do; the kernel then allows no new /proc, which would show what is hidden here
    checked(libc.mount(b"none", b"/proc/sys", b"tmpfs", 0, None))
    enter()  # what is hidden is locked for whoever comes after
os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - an argv, as everywhere
