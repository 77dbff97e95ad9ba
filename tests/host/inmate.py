"""Payloads that look around in their PID namespace, or try to get out of it: `inmate.py DEED [ARGUMENT]`."""

import os
import signal
import sys
import time
from pathlib import Path


def pids() -> list[int]:
    return sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def ready() -> None:
    path = Path(os.environ["READY"])
    new = path.with_suffix(".new")
    new.write_text(str(os.getpid()))
    new.rename(path)


def stay() -> None:
    ready()
    time.sleep(600)


def look() -> None:
    os.setpgrp()
    print("pids", pids() == sorted({1, os.getpid()}))
    print("parent", os.getppid())
    print("session", os.getsid(0), os.getsid(0) == os.getpid())
    print("group", os.getpgid(0) == os.getpid())
    print("uid", os.getuid(), os.getgid())
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print("caps", int(status["CapEff"], 16) | int(status["CapPrm"], 16) | int(status["CapAmb"], 16))
    print("fds", sorted(int(fd.name) for fd in list(Path("/proc/self/fd").iterdir()) if fd.exists()))
    print("reach", os.access("/proc/1/cwd/.", os.R_OK), os.access("/proc/1/mem", os.W_OK) and memory())


def memory() -> bool:
    """Whether init's memory may be opened, as by a debugger."""
    try:
        os.close(os.open("/proc/1/mem", os.O_RDWR))
    except PermissionError:
        return False
    return True


def orphans() -> None:
    """Leave many dead children to init, and see that none is left."""
    for _ in range(int(sys.argv[2])):
        if os.fork() == 0:
            if os.fork() == 0:
                os._exit(3)
            os._exit(0)
        os.wait()
    until = time.monotonic() + 20
    while len(pids()) > 2 and time.monotonic() < until:
        time.sleep(0.01)
    print("left", [stat(pid)[0] for pid in pids() if pid not in {1, os.getpid()}])


def churn() -> None:
    """Make orphans for ever."""
    ready()
    while True:
        if os.fork() == 0:
            if os.fork() == 0:
                os.setsid()
                time.sleep(0.02)
            os._exit(0)
        os.wait()


def kill_orphans() -> None:
    """Kill every process of our uid whose parent is 1, as PanDA's pilot does at its end."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    os.wait()
    killed = 0
    for pid in pids():
        mine = Path(f"/proc/{pid}").stat().st_uid == os.getuid()
        if mine and pid != os.getpid() and stat(pid)[1] == "1":
            os.kill(pid, signal.SIGKILL)
            killed += 1
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP):
        try:
            os.kill(1, number)
        except PermissionError:  # noqa: PERF203 - root's init, of a payload that is somebody else
            continue
    print("killed", killed)


def daemons() -> None:
    """Leave daemons that are deaf and in sessions of their own, then end, or stay."""
    read, write = os.pipe()
    for _ in range(5):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                os.write(write, b"x")
                time.sleep(600)
            os._exit(0)
        os.wait()
    count = 0
    while count < 5:
        count += len(os.read(read, 5))
    if sys.argv[2] == "stay":
        stay()
    ready()
    sys.exit(int(sys.argv[2]))


def deaf() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stay()


def obedient() -> None:
    def end(_number: int, _frame: object) -> None:
        sys.exit(5)

    signal.signal(signal.SIGTERM, end)
    stay()


def burn() -> None:
    """Use half a second of CPU in a child, then be ended from outside."""
    if os.fork() == 0:
        while time.process_time() < 0.5:
            pass
        os._exit(0)
    os.wait()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stay()


def flood() -> None:
    for _ in range(int(sys.argv[2])):
        os.write(1, b"x" * 1023 + b"\n")
    os.write(1, b"the last words\n")


def die() -> None:
    os.kill(os.getpid(), int(sys.argv[2]))


def leave() -> None:
    sys.exit(int(sys.argv[2]))


DEEDS = {
    deed.__name__: deed
    for deed in (*(look, orphans, churn, kill_orphans, daemons, deaf, obedient, burn, flood, die, leave, stay),)
}

if __name__ == "__main__":
    DEEDS[sys.argv[1]]()
