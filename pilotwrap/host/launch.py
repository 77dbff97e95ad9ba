"""The one place where a process is started: fork, set up, exec."""

import posix as os  # the same calls, without the 1.3 ms and 30 opened files of `os`

from pilotwrap.host import cpulist, subreaper, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Dict, List, Mapping, NoReturn, Optional, Tuple
else:
    import _signal

ALL_SIGNALS = [n for n in range(1, _signal.NSIG) if n not in (32, 33)]  # those two are glibc's own

# How terminals and batch systems ask for the end, or say that it is near.
ASKING = (
    *(_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT),
    *(_signal.SIGUSR1, _signal.SIGUSR2, _signal.SIGXCPU, _signal.SIGALRM),
)

# What a program expects to find at its default action: Python ignores the first two, keepers the others.
RESET = (_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGCHLD, *ASKING)


# Where a program is looked for if its environment has no PATH, as Python's os.defpath.
DEFAULT_PATH = "/bin:/usr/bin"

# ENODEV: what was promised is not here. Neither execve(2) nor open(2) of a file gives it.
NO_SUCH_DEVICE = 19


class User:
    """Whose rights a process gets; needs root."""

    def __init__(self, uid: int, gid: int, groups: "List[int]") -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups

    def become(self) -> None:
        """Take these rights for good."""
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


class Launch:
    """What is started and how; the caller sets what differs from the plain case.

    `session`: "new", "inherit", or "group" (a process group of its own in the caller's session). `dies_with_parent`:
    the kernel kills it when the caller dies. `deaf`: it ignores whoever asks for its end, and so does what it starts.
    `wakes_without_parent`: when the caller dies the kernel lets it go on, if somebody has stopped it.
    """

    def __init__(self, argv: "List[str]", env: "Dict[str, str]") -> None:
        self.argv = argv
        self.env = env
        self.cwd = ""
        self.fds: "Tuple[int, int, int]" = (0, 1, 2)
        self.session = "inherit"
        self.cpus = ""
        self.user: "Optional[User]" = None
        self.cgroup = ""
        self.dies_with_parent = False
        self.wakes_without_parent = False
        self.deaf = False


class LaunchError(OSError):
    """A process could not be started: errno, and what could not be done."""

    def __init__(self, errno: int, what: str) -> None:
        super().__init__(errno, os.strerror(errno))
        self.what = what


def start(launch: Launch) -> int:
    """Start a process and return its pid once its program runs, or raise `LaunchError`."""
    if not launch.argv:
        raise LaunchError(22, "an empty argv")
    told, tell = os.pipe()
    # until the child has reset its handlers a signal meant for it would wake its parent
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, ALL_SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _become(launch, tell)
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        os.close(tell)
    answer = os.read(told, 4096)
    os.close(told)
    if answer:
        os.waitpid(pid, 0)
        errno, _, what = wire.cooked(answer).partition(" ")
        raise LaunchError(int(errno), what)
    return pid


def _become(launch: Launch, tell: int) -> "NoReturn":
    """Turn this forked process into the program, or say why not and end."""
    doing = ["start"]
    try:
        _set_up(launch, doing)
        _exec(launch, doing)
    except (OSError, ValueError) as error:
        errno = getattr(error, "errno", None) or 22
        os.write(tell, wire.raw("%d %s" % (errno, doing[0]))[:4000])
    finally:
        os._exit(127)  # noqa: SLF001 - its name everywhere


def _stand_apart(launch: Launch) -> None:
    for number in RESET:
        _signal.signal(number, _signal.SIG_IGN if launch.deaf and number in ASKING else _signal.SIG_DFL)
    if launch.session == "new":
        os.setsid()
    elif launch.session == "group":
        os.setpgid(0, 0)


def _set_up(launch: Launch, doing: "List[str]") -> None:
    _stand_apart(launch)
    if launch.cgroup:
        doing[0] = "enter the cgroup " + launch.cgroup
        enter_cgroup(launch.cgroup)
    if launch.cpus:
        doing[0] = "bind to the CPUs " + launch.cpus
        promised = cpulist.numbers(launch.cpus)
        os.sched_setaffinity(0, promised)
        if os.sched_getaffinity(0) != promised:
            raise LaunchError(NO_SUCH_DEVICE, doing[0])
    for target, fd in enumerate(launch.fds):
        if fd != target:
            os.dup2(fd, target)
    if launch.user is not None:
        doing[0] = "become user %d" % launch.user.uid
        launch.user.become()
    if launch.cwd:
        doing[0] = "enter the folder " + launch.cwd
        os.chdir(wire.raw(launch.cwd))
    if launch.dies_with_parent:
        # last: a change of user takes it back
        subreaper.die_with_parent(_signal.SIGKILL)
    elif launch.wakes_without_parent:
        subreaper.die_with_parent(_signal.SIGCONT)


def enter_cgroup(folder: str) -> None:
    """Put this process into a cgroup."""
    fd = os.open(folder + "/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, b"0")
    os.close(fd)


def _exec(launch: Launch, doing: "List[str]") -> None:
    doing[0] = "start " + launch.argv[0]
    argv = [wire.raw(word) for word in launch.argv]
    env = {wire.raw(name): wire.raw(value) for name, value in launch.env.items()}
    _signal.pthread_sigmask(_signal.SIG_SETMASK, [])
    refusal: "Optional[OSError]" = None
    for place in _places(launch):
        try:
            os.execve(place, argv, env)
        except (FileNotFoundError, NotADirectoryError) as error:  # noqa: PERF203 - ends at the first that is there
            refusal = refusal or error
        except PermissionError as error:
            # a folder that may not be entered hides no program that is found further on
            refusal = error
    assert refusal is not None  # noqa: S101 - execve returns in no other way
    raise refusal


def _places(launch: Launch) -> "List[bytes]":
    """Return where the program may be: its path, or its name in each folder of the PATH that it will have."""
    name = wire.raw(launch.argv[0])
    if b"/" in name:
        return [name]
    folders = launch.env.get("PATH", DEFAULT_PATH).split(":")
    return [wire.raw(folder or ".") + b"/" + name for folder in folders]


def own_environment() -> "Dict[str, str]":
    """Return this process's environment, as it is now."""
    from os import environb  # files that a shim, which began with what it has, need not open

    return cooked(environb)


def cooked(environment: "Mapping[bytes, bytes]") -> "Dict[str, str]":
    """Return an environment by its bytes, not by the locale."""
    return {wire.cooked(name): wire.cooked(value) for name, value in environment.items()}
