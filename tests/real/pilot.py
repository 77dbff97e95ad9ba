"""PanDA's own pilot from PyPI, and runs of it under pilotwrap in a network that has loopback alone.

Never as root and never among other people's processes: `run --agent pilot3` gives it an unprivileged user and a PID
namespace of its own where we are root, and these tests are skipped where we are not.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from run.rig import Rig

from pilotwrap.lab.process import LabProcess
from pilotwrap.lab.queuedata import storage_path

if TYPE_CHECKING:
    from pilotwrap.lab.api import Api

REQUIREMENT = "panda-pilot==3.7.0.36"
SHA256 = "8b5b754fa9fbea835b14215c2957a59a393988113c5209f5c826e6c67b46f03e"
"""Of its sdist: the wheel has no pilot.py."""

ROOM = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
NEEDED = {"ip": "iproute2", "setpriv": "util-linux", "curl": "curl", "/usr/bin/python3": "python3"}
TEXT = "one two three\n" * 1000
CLONE_NEWNET = 0x40000000
"""linux/sched.h"""


@pytest.fixture(scope="session")
def pilot_sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive of the pilot, fetched once; a skip says what is missing."""
    if os.geteuid() or subprocess.run([*ROOM, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs root and unshare: the pilot runs as nobody in namespaces of its own; run the tests as root")
    missing = [package for name, package in NEEDED.items() if shutil.which(name) is None]
    if missing:
        pytest.skip(f"the pilot needs more: apt-get install {' '.join(missing)}")
    folder = tmp_path_factory.mktemp("sdist")
    (folder / "requirements.txt").write_text(f"{REQUIREMENT} --hash=sha256:{SHA256}\n")
    words = ["--no-deps", "--no-binary", ":all:", "--require-hashes", "-r", "requirements.txt", "-d", "got"]
    argv = [sys.executable, "-m", "pip", "download", "-q", *words]
    ended = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    if ended.returncode:
        pytest.skip(f"{REQUIREMENT} cannot be had ({ended.stderr.strip()[-200:]}): give pip an index that has it")
    return next((folder / "got").glob("*.tar.gz"))


@pytest.fixture
def alone() -> Iterator[None]:
    """Put this test, and all that it starts, into a network namespace that has loopback and nothing else."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        subprocess.run([shutil.which("ip") or "/sbin/ip", "link", "set", "lo", "up"], check=True)
        interfaces = [line.split(":")[0].strip() for line in Path("/proc/thread-self/net/dev").read_text().splitlines()]
        assert [name for name in interfaces[2:] if name != "lo"] == []
        yield
    finally:
        assert libc.setns(before, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        os.close(before)


@dataclass
class PilotRig(Rig):
    """A rig whose runs are pilot3's; `storage` is the lab's endpoint, as the pilot's copytool mv reaches it."""

    sdist: Path = Path("/nowhere")

    def give(self, lfn: str, text: str = TEXT) -> dict[str, Any]:
        """Put an input into the storage, and return how a job names it."""
        path = self.stored(lfn)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for folder in (path, *path.parents[:3]):
            os.chown(folder, 65534, 65534)
        return {"lfn": lfn, "size": len(text), "adler32": f"{zlib.adler32(text.encode()):08x}"}

    def stored(self, lfn: str) -> Path:
        """Where a file of the job lies in the storage."""
        return self.storage / storage_path(lfn)

    @property
    def pilot_words(self) -> list[str]:
        """What `run` is told of the pilot."""
        return [
            *("--agent", "pilot3", "--pilot", f"{self.sdist}#sha256={SHA256}"),
            *("--storagedata", f"{self.lab.address.url}/cache/ddmendpoints.json"),
            f"--pilot-option=--input-destination-dir={self.storage}",
        ]


@contextmanager
def pilot_rig(sdist: Path, api: Api, *options: str) -> Iterator[PilotRig]:
    """Yield a rig on a lab of its own, in a folder that the pilot's user can enter; at its end nothing may live."""
    path = Path(tempfile.mkdtemp(prefix="pilotwrap-pilot-"))
    path.chmod(0o755)
    (path / "storage").mkdir()
    os.chown(path / "storage", 65534, 65534)
    private = path / "private"
    private.mkdir(mode=0o700)
    try:
        with LabProcess(private / "lab.sqlite", ["--files", str(path / "storage"), *options], api) as lab:
            rig = PilotRig(path, lab, sdist=sdist)
            try:
                yield rig
            finally:
                rig.kill_runs()
            rig.nothing_left()
    finally:
        shutil.rmtree(path)
