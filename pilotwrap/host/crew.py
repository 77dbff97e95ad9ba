"""The keepers that a starter has, from the fork to the last child that one of them leaves behind."""

import os
import sys
import time

from pilotwrap.host import cgroup, descendants, observe, subreaper, wire
from pilotwrap.host.keeper import be_keeper
from pilotwrap.host.launch import ALL_SIGNALS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Callable, Dict, List, NoReturn, Optional, Set

    from pilotwrap.host.spawn import Spawn
else:
    import _signal

# After KILL: a process in uninterruptible sleep is left alone after this (a guess).
GIVE_UP_S = 5.0


class Post:
    """One keeper, as the starter knows it."""

    def __init__(self, order_id: object, lifeline: int) -> None:
        self.id = order_id
        self.lifeline = lifeline
        self.payload = 0
        self.reported = False


class Crew:
    """All keepers and observers. `report`: the pipe they tell their starter through; `shut`: what they must close."""

    def __init__(self, shut: "Callable[[], List[int]]") -> None:
        self.report, self._write = os.pipe()
        os.set_blocking(self.report, False)
        self._shut = shut
        self._cgroup_base: "Optional[str]" = None
        self.controller = 0
        self.posts: "Dict[int, Post]" = {}
        self.observers: "Set[int]" = set()

    def spawn(self, spawn: "Spawn") -> None:
        """Fork a keeper; `OSError` where the kernel has no room for one."""
        if self._cgroup_base is None:
            self._cgroup_base = cgroup.parent()
        read, write = os.pipe()
        # wait4 loads this when it reports the usage: here once, in a keeper for each job anew
        import resource  # noqa: F401 - for its loading alone

        pid = self._fork()
        if pid == 0:
            os.close(write)
            be_keeper(spawn, read, self._write, self._cgroup_base)
        os.close(read)
        os.set_blocking(write, False)
        self.posts[pid] = Post(spawn.id, write)

    def observe(self) -> int:
        """Fork an observer; the pipe through which its snapshot comes."""
        read, write = os.pipe()
        starter = os.getpid()
        pid = self._fork()
        if pid == 0:
            os.close(read)
            _be_observer(write, starter)
        os.close(write)
        self.observers.add(pid)
        return read

    def signal(self, order_id: object, number: int, grace_s: float) -> None:
        """Have one keeper signal its payload; nobody by that id: it has ended, and `exited` is on its way."""
        for post in self.posts.values():
            if post.id == order_id and not post.reported:
                self._tell(post, number, grace_s)

    def end(self, number: int, grace_s: float) -> None:
        """Have all payloads ended."""
        for post in self.posts.values():
            self._tell(post, number, grace_s)
        for pid in self.observers:
            descendants.send(pid, _signal.SIGKILL)

    def kill(self) -> None:
        """End the keepers themselves; what they leave is for `end_orphans`."""
        for pid in self.posts:
            descendants.send(pid, _signal.SIGKILL)

    def noted(self, event: "Dict[str, object]") -> None:
        """Keep account of what a keeper has reported."""
        for post in self.posts.values():
            if post.id == event.get("id") and not post.reported:
                if event["event"] == "started":
                    post.payload = int(wire.number(event, "pid"))
                else:
                    post.reported = True

    def ended(self, pid: int) -> "Optional[Dict[str, object]]":
        """Take a reaped child off the books; what to say for a keeper that could not say it itself."""
        self.observers.discard(pid)
        post = self.posts.pop(pid, None)
        if post is None:
            return None
        os.close(post.lifeline)
        if post.reported:
            return None
        contained = cgroup.Cgroup(self._cgroup_base or "", pid, made=True)
        contained.kill()
        left = self.end_orphans()
        contained.remove_soon()
        return _lost(post, left)

    def end_orphans(self) -> int:
        """End the children that are no keepers, with all below them; how many there were.

        They came up to us when their keeper was killed. The controller stays, with what shares its session.
        """
        killed: "Set[int]" = set()
        until = time.monotonic() + GIVE_UP_S
        while time.monotonic() < until:
            orphans = [pid for pid in descendants.children(os.getpid()) if not self._knows(pid)]
            if not orphans:
                break
            killed |= descendants.kill(orphans)
            for pid in orphans:
                _reap(pid)
            time.sleep(0.005)
        return len(killed)

    def _knows(self, pid: int) -> bool:
        if pid in self.posts or pid in self.observers or pid == self.controller:
            return True
        try:
            return self.controller != 0 and os.getsid(pid) == self.controller
        except ProcessLookupError:
            return False

    def _let_go(self) -> None:
        """Close what only the starter may hold: its death is known by the end of these."""
        _signal.set_wakeup_fd(-1)
        for fd in [*self._shut(), *(post.lifeline for post in self.posts.values())]:
            try:
                os.close(fd)
            except OSError:  # noqa: PERF203 - a forked child must not return into the starter's handlers
                continue

    @staticmethod
    def _tell(post: Post, number: int, grace_s: float) -> None:
        try:
            os.write(post.lifeline, b"%d %f\n" % (number, grace_s))
        except (BrokenPipeError, BlockingIOError):
            return  # it has ended, or it has hundreds of such lines to read already

    def _fork(self) -> int:
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, ALL_SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                self._let_go()
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        return pid


def _be_observer(write: int, starter: int) -> "NoReturn":
    """Write this node's snapshot into a pipe, and die with the starter: the scheduler may not answer for long."""
    try:
        subreaper.die_with_parent(_signal.SIGKILL)
        if os.getppid() == starter:
            data = wire.line(observe.snapshot())
            while data:
                data = data[os.write(write, data) :]
    finally:
        if sys.exc_info()[0] is not None:
            sys.excepthook(*sys.exc_info())
        os._exit(0)


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _lost(post: Post, left: int) -> "Dict[str, object]":
    """Return what a killed keeper can no longer say."""
    if not post.payload:
        ended = "its keeper ended before it"
        return {"event": "failed", "id": post.id, "errno": "ECHILD", "text": ended, "what": "start"}
    return {
        "event": "exited",
        "id": post.id,
        "exit_code": None,
        "signal": int(_signal.SIGKILL),
        "timed_out": False,
        "cut": 0,
        "left": left,
        "contained": "subreaper",
        "note": "its keeper ended before it",
        "usage": {"wall_s": 0.0, "user_s": 0.0, "system_s": 0.0, "max_rss_kib": 0, "started_at": 0.0},
    }
