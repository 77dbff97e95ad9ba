"""The test's end of a real starter: a real controller process relays the wire to this process."""

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PATIENCE_S = 30.0

STARTER = """
import sys
sys.path.insert(0, sys.argv[1])
from pilotwrap.host import starter
sys.exit(starter.main(sys.argv[3:], [sys.argv[2].split()[0]] + sys.argv[2].split()[1:]))
"""


def until(claim: Callable[[], object], patience_s: float = PATIENCE_S) -> object:
    """Return the first true answer of `claim`; fail when there is none in time."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        answer = claim()
        if answer:
            return answer
        time.sleep(0.005)
    raise AssertionError(f"not within {patience_s} s: {claim}")


def marked(mark: str) -> list[int]:
    """Return the processes which have the mark in their environment and are alive."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark.encode() in (entry / "environ").read_bytes() and state(int(entry.name)) != "Z":
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def relay(tmp_path: Path) -> str:
    """Return the command that starts the relay for the `Talk` of this folder."""
    return f"{sys.executable} {HERE / 'relay_controller.py'} {tmp_path / 'socket'}"


class Talk:
    """A starter with the relay as its controller; `say` and `hear` are the controller's side of the wire."""

    def __init__(
        self, tmp_path: Path, *words: str, python: str = sys.executable, argv: list[str] | None = None
    ) -> None:
        self.mark = f"mark-{uuid.uuid4().hex}"
        self.tmp_path = tmp_path
        self._ids = 0
        self._buffer = b""
        self.path = tmp_path / "socket"
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(self.path))
        self.path.chmod(0o777)  # the starter may be another user's
        server.listen(1)
        server.settimeout(PATIENCE_S)
        own = argv or [python, "-I", "-S", "-c", STARTER, str(ROOT), relay(tmp_path)]
        self.starter = subprocess.Popen(
            [*own, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "MARK": self.mark, "A_TOKEN": "hush", "PLAIN": "yes"},
            start_new_session=True,
            cwd=tmp_path,
        )
        self.link, _ = server.accept()
        server.close()
        self.link.settimeout(PATIENCE_S)
        self.controller = int(self._line())

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            data = self.link.recv(1 << 20)
            if not data:
                raise EOFError
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def hear(self, *events: str) -> dict:
        """Return the next message of one of these kinds; any, if none is named."""
        while True:
            message = json.loads(self._line())
            if not events or message["event"] in events:
                return message

    def say(self, **order: object) -> None:
        self.link.sendall(json.dumps(order).encode() + b"\n")

    def spawn(self, argv: list[str], **more: object) -> int:
        self._ids += 1
        env = {"MARK": self.mark + "-payload", "READY": str(self.ready(self._ids)), **more.pop("env", {})}
        order = {
            "do": "spawn",
            "id": self._ids,
            "argv": argv,
            "keep": ["PATH"],
            "env": env,
            "unset": [],
            "cwd": None,
            "session": "new",
            "stdin": "null",
            "stdout": None,
            "stderr": None,
            "output_cap": 1 << 20,
            "cpus": None,
            "user": None,
            "wall_s": None,
            "grace_s": 5.0,
            "pid_namespace": None,
        }
        self.say(**{**order, **more})
        return self._ids

    def deed(self, *deed: str, **more: object) -> int:
        return self.spawn([sys.executable, "-S", str(HERE / "bad_child.py"), *deed], **more)

    def ready(self, order_id: int) -> Path:
        return self.tmp_path / f"ready-{order_id}"

    def done(self, order_id: int) -> int:
        """Wait until the payload says that its deed is done; its pid."""
        until(self.ready(order_id).exists)
        return int(self.ready(order_id).read_text())

    def finish(self, exit_code: int = 0, output: str | None = None) -> tuple[int, str, str]:
        self.say(do="finish", exit_code=exit_code, output=output)
        return self.end()

    def end(self) -> tuple[int, str, str]:
        """Wait for the starter's end: its exit code, stdout and stderr."""
        out, err = self.starter.communicate(timeout=PATIENCE_S)
        return self.starter.returncode, out.decode(), err.decode()

    def nothing_left(self) -> None:
        until(lambda: not marked(self.mark))

    def no_payload_left(self) -> None:
        until(lambda: not marked(self.mark + "-payload"))

    def close(self) -> None:
        """Leave nothing, whatever the test did."""
        self.link.close()
        if self.starter.poll() is None:
            self.starter.kill()
        self.starter.communicate(timeout=PATIENCE_S)
        for pid in marked(self.mark):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:  # noqa: PERF203 - it may end by itself meanwhile
                continue
