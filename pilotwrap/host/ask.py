"""Short commands whose answer is recorded: all at once, each with a deadline and in a process group of its own."""

import errno as _errno
import os
import select
import time

from pilotwrap.host import descendants, names, ward, wire
from pilotwrap.host.launch import Launch, LaunchError, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Dict, List, Optional
else:
    import _signal

# squeue's own timeout is 10 s (MessageTimeout); a scheduler that needs longer is as good as none.
DEADLINE_S = 10.0
OUTPUT_MOST = 65536


class Command:
    """A command that was started, and what it has said so far."""

    def __init__(self, argv: "List[str]", env: "Dict[str, str]", cwd: str = "") -> None:
        self.argv = argv
        self.output = b""
        self.error: "Optional[str]" = None
        self.status: "Optional[int]" = None
        self.begun = time.monotonic()
        self.duration_s = 0.0
        self.pid = 0
        self.fd, write = os.pipe()
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        launch = Launch(argv, env)
        launch.session = "new"
        launch.fds = (null, write, write)
        launch.cwd = cwd
        launch.dies_with_parent = True
        try:
            self.pid = start(launch)
        except LaunchError as error:
            self.error = _errno.errorcode.get(error.errno or 0, "EIO")
        os.close(write)
        os.close(null)

    def read(self) -> bytes:
        """Take and return what it says now; nothing at its end."""
        data = os.read(self.fd, 65536)
        self.output = (self.output + data)[:OUTPUT_MOST]
        return data

    def end(self, *, late: bool) -> None:
        """Kill whatever is left of its group and reap it, with patience for a moment only."""
        os.close(self.fd)
        if not self.pid:
            return
        if late:
            self.error = "deadline"
            descendants.send_group(self.pid, _signal.SIGKILL)
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
                break
            time.sleep(0.002)
        descendants.send_group(self.pid, _signal.SIGKILL)
        self.duration_s = time.monotonic() - self.begun

    def answer(self) -> "Dict[str, object]":
        """Return it as the snapshot records it."""
        number = ward.end_signal(self.status)
        code = ward.exit_code(self.status)
        return {
            "argv": self.argv,
            "exit": -number if number is not None else code,
            "output": scrubbed(self.output.decode("utf-8", "replace")),
            "error": self.error,
            "duration_s": round(self.duration_s, 6),
        }


def scrubbed(text: str) -> str:
    """Return a command's output without what has a secret's name: `qstat -f` tells the job's whole environment."""
    if text.lstrip().startswith("{"):
        try:
            return wire.cooked(wire.line(_without_secrets(wire.message(text.encode("utf-8")))))
        except wire.GarbledError:  # cut, or no JSON after all: by lines then
            return _without_secret_lines(text)
    return _without_secret_lines(text)


def _without_secret_lines(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not names.secret(line))


def _without_secrets(values: "Dict[str, object]") -> "Dict[str, object]":
    return {
        key: _without_secrets(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if not names.secret(key)
    }


def answers(
    argvs: "List[List[str]]", env: "Dict[str, str]", deadline_s: float = DEADLINE_S
) -> "List[Dict[str, object]]":
    """Run commands side by side and return what each said, in their order."""
    commands = [Command(argv, env) for argv in argvs]
    poll = select.poll()
    talking = {command.fd: command for command in commands}
    for fd in talking:
        poll.register(fd, select.POLLIN)
    until = time.monotonic() + deadline_s
    while talking and time.monotonic() < until:
        for fd, _what in poll.poll(int((until - time.monotonic()) * 1000) + 1):
            if not talking[fd].read():
                poll.unregister(fd)
                talking.pop(fd).end(late=False)
    for command in talking.values():
        command.end(late=True)
    return [command.answer() for command in commands]
