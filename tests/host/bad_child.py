"""Payloads that misbehave: `bad_child.py DEED [ARGUMENT]`."""

import os
import signal
import sys
import time
from pathlib import Path

FOR_EVER_S = 600


def stay() -> None:
    time.sleep(FOR_EVER_S)


def ready() -> None:
    """Tell the test, through the file it named, that the deed is done."""
    path = Path(os.environ["READY"])
    new = path.with_suffix(".new")
    new.write_text(str(os.getpid()))
    new.rename(path)


def ignore_term() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    ready()
    stay()


def obey_term() -> None:
    def end(_number: int, _frame: object) -> None:
        sys.exit(5)

    signal.signal(signal.SIGTERM, end)
    ready()
    stay()


def daemon() -> None:
    """Leave a daemon behind: double fork, new session, deaf to TERM; the leader exits at once."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(write, b"x")
            stay()
        os._exit(0)
    os.wait()
    os.read(read, 1)
    ready()
    sys.exit(int(sys.argv[2]) if len(sys.argv) > 2 else 0)


def daemon_and_stay() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            ready()
    stay()


def forks() -> None:
    """Fork in a chain that always has one alive and never stays in a session."""
    ready()
    for _ in range(2000):
        if os.fork() != 0:
            os._exit(0)
        os.setsid()
        time.sleep(0.001)


def flood() -> None:
    line = b"x" * 1023 + b"\n"
    for _ in range(int(sys.argv[2])):
        os.write(1, line)
    os.write(1, b"the last words\n")


def nuls() -> None:
    for _ in range(int(sys.argv[2])):
        os.write(1, b"\0" * 1024)


def kill_keeper() -> None:
    """Kill our own parent, then stay, with a daemon."""
    if os.fork() == 0:
        os.setsid()
        stay()
    os.kill(os.getppid(), signal.SIGKILL)
    ready()
    stay()


def die() -> None:
    os.kill(os.getpid(), int(sys.argv[2]))


def watch_input() -> None:
    """Be a launcher: end when standard input ends; say how many beats came."""
    ready()
    beats = 0
    while True:
        data = os.read(0, 100)
        if not data:
            break
        beats += len(data)
    print("beats", beats > 0)
    sys.exit(9)


def show() -> None:
    print("uid", os.getuid(), "gid", os.getgid(), "groups", sorted(os.getgroups()))
    print("cwd", Path.cwd())
    print("leader", os.getsid(0) == os.getpid(), "group", os.getpgid(0) == os.getpid())
    print("cpus", sorted(os.sched_getaffinity(0)))
    print("fds", sorted(int(fd.name) for fd in list(Path("/proc/self/fd").iterdir()) if fd.exists()))
    print("names", " ".join(sorted(os.environ)))
    print("pipe", signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
    status = Path("/proc/self/status").read_text().splitlines()
    print("ignored", next(line.split()[1] for line in status if line.startswith("SigIgn")))


DEEDS = {
    deed.__name__: deed
    for deed in (
        *(ignore_term, obey_term, daemon, daemon_and_stay, forks, flood, nuls, kill_keeper, die, watch_input, show),
    )
}

DEEDS[sys.argv[1]]()
