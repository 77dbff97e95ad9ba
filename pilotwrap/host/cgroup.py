"""A cgroup of our own where one is granted: its end ends all that is in it."""

import os
import time

from pilotwrap.host import descendants

# Where systemd mounts version 2: alone, or beside version 1 ("hybrid").
MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")


def parent() -> str:
    """Return our own version 2 cgroup's folder if we may make folders in it, else nothing."""
    try:
        own = descendants.content("/proc/self/cgroup")
    except OSError:
        return ""
    for line in own.splitlines():
        if line.startswith("0::"):
            for mount in MOUNTS:
                folder = mount + line[3:].rstrip("/")
                if os.access(folder + "/cgroup.procs", os.W_OK) and os.access(folder, os.W_OK):
                    return folder
    return ""


class Cgroup:
    """The cgroup of a keeper's payload, named by the keeper's pid; `folder` is empty where it could not be made."""

    def __init__(self, base: str, keeper: int, *, made: bool = False) -> None:
        folder = "%s/pilotwrap-%d" % (base, keeper) if base else ""
        self.folder = folder if made or not folder else self._made(folder)

    @staticmethod
    def _made(folder: str) -> str:
        try:
            os.mkdir(folder)
        except OSError:
            return ""
        # cgroup.kill came with Linux 5.14; without it the folder is of no use
        if os.access(folder + "/cgroup.kill", os.W_OK):
            return folder
        os.rmdir(folder)
        return ""

    def kill(self) -> None:
        """Kill all that is in it, however it got away from its parents."""
        if self.folder:
            try:
                fd = os.open(self.folder + "/cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
            except OSError:
                return
            os.write(fd, b"1")
            os.close(fd)

    def remove(self) -> bool:
        """Remove the folder; false while something in it still dies."""
        if self.folder:
            try:
                os.rmdir(self.folder)
            except FileNotFoundError:
                pass
            except OSError:
                return False
            self.folder = ""
        return True

    def remove_soon(self) -> None:
        """Remove the folder when all that was killed in it has died, which takes moments."""
        for _ in range(50):
            if self.remove():
                return
            time.sleep(0.01)
