"""What the kernel calls a PID namespace with a /proc of its own, and how a process of ours comes into one.

Loaded only where an order asks for it: `ctypes` opens 50 to 80 files.
"""

import ctypes
import os

# linux/sched.h, linux/mount.h
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
MS_REC = 0x4000
MS_SLAVE = 0x80000


def enter() -> None:
    """Enter the namespaces that the next child begins; who is not root gets a user namespace with itself in it.

    A uid other than 0 loses all capabilities at exec, so only our own processes ever have those of that namespace.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        _call("unshare", CLONE_NEWPID | CLONE_NEWNS)
        return
    _call("unshare", CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS)
    _write("/proc/self/setgroups", b"deny")  # without it no gid may be mapped, user_namespaces(7)
    _write("/proc/self/uid_map", b"%d %d 1" % (uid, uid))
    _write("/proc/self/gid_map", b"%d %d 1" % (gid, gid))


def mount_proc() -> None:
    """Mount a /proc that shows this namespace's processes; to be called by its first one.

    Mounts that the host makes later (automounted file systems) still come in; none of ours goes out.
    """
    _call("mount", None, b"/", None, ctypes.c_ulong(MS_REC | MS_SLAVE), None)
    _call("mount", b"proc", b"/proc", b"proc", ctypes.c_ulong(MS_NOSUID_NODEV_NOEXEC), None)


def _call(name: str, *arguments: object) -> None:
    """Make a system call of the C library; `OSError` with its name when it is refused."""
    call = getattr(ctypes.CDLL(None, use_errno=True), name)
    if call(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def _write(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(fd)
