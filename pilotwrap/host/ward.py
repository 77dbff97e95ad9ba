"""A started payload and all that it brings into being, until nothing of it is left."""

import posix as os  # the same calls, without the 1.3 ms and 30 opened files of `os`
import time

from pilotwrap.host import descendants

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import List, Optional, Set, Tuple

    from pilotwrap.host.cgroup import Cgroup
else:
    import _signal

# Between two rounds of KILL: a killed process needs a moment to die and to hand its children up.
ROUND_S = 0.02

# A process in uninterruptible sleep is never reaped; then we go without it (a guess).
GIVE_UP_S = 5.0

# srun killed alone: its helper ends the step within 11 ms (measured); hydra's does alike. Killed with it, the ranks
# on other nodes hear nothing and live on until they miss our beats.
HELPER_S = 1.0

# These ask for the end; any other signal is only passed on.
ENDING = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT, _signal.SIGKILL)


class Ward:
    """The payload `pid` of a process which is its subreaper and has no other children.

    `reach`: who gets its signals: the "leader", its process "group", or all "below" us.
    `lifeline`: a descriptor that is closed before any TERM, so that a launcher tells its ranks; then the launcher
    alone is signalled and gets half the grace to end by itself: ranks whose srun dies at once never hear of it.
    """

    def __init__(
        self, pid: int, *, cgroup: "Optional[Cgroup]" = None, lifeline: int = -1, reach: str = "group"
    ) -> None:
        self.pid = pid
        self.status: "Optional[int]" = None
        self.left = 0
        self.gone = False
        self.user_s = 0.0
        self.system_s = 0.0
        self.max_rss_kib = 0
        self._cgroup = cgroup
        self._lifeline = lifeline
        self._reach = reach
        self._number: int = _signal.SIGTERM
        self._term_at: "Optional[float]" = None
        self._kill_at: "Optional[float]" = None
        self._give_up_at: "Optional[float]" = None
        self._spared_until: "Optional[float]" = None
        self._killed: "Set[int]" = set()

    @property
    def ending(self) -> bool:
        """Whether it was told to end."""
        return self._kill_at is not None

    def signal(self, number: int, grace_s: float) -> None:
        """End the payload: this signal, and KILL to all that is left after the grace; other signals are passed on."""
        if number not in ENDING:
            self._send(number)
            return
        now = time.monotonic()
        if self._kill_at is None:
            self._number = number
            self._term_at = now + grace_s / 2 if self._lifeline >= 0 else now
        kill_at = now if number == _signal.SIGKILL else now + grace_s
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)
        self.close_lifeline()
        self.advance()

    def close_lifeline(self) -> None:
        """Let the launcher's ranks see the end of their input."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def beat(self) -> None:
        """Show the ranks at the lifeline's other end that somebody is still there."""
        if self._lifeline >= 0:
            try:
                os.write(self._lifeline, b".")
            except (BlockingIOError, BrokenPipeError):
                return

    def advance(self) -> None:
        """Reap what has died and do what is due."""
        self._reap()
        if self.gone:
            return
        now = time.monotonic()
        if self.status is not None or (self._kill_at is not None and now >= self._kill_at):
            if not (self._spared(now) or self._in_grace(now)):
                self._kill(now)
            self._reap()
        elif self._term_at is not None and now >= self._term_at:
            self._term_at = None
            self._send(self._number)

    def wait_s(self) -> "Optional[float]":
        """Return after how long `advance` has something to do if no child dies before; none: never."""
        if self.gone:
            return 0.0
        if self.status is not None or self._give_up_at is not None or self._spared_until is not None:
            return ROUND_S
        due = [at for at in (self._term_at, self._kill_at) if at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _send(self, number: int) -> None:
        if self.status is not None:
            return
        if self._reach == "below":
            for pid in descendants.below(descendants.children(os.getpid())):
                descendants.send(pid, number)
        elif not (self._reach == "group" and descendants.send_group(self.pid, number)):
            descendants.send(self.pid, number)

    def _spared(self, now: float) -> bool:
        """Whether a killed launcher's helpers have their moment; the launcher itself is killed here."""
        if self._reach != "leader" or exit_code(self.status) is not None:
            return False
        if self._spared_until is None:
            self._spared_until = now + HELPER_S
            if self.status is None:
                descendants.send(self.pid, _signal.SIGKILL)
        return now < self._spared_until

    def _in_grace(self, now: float) -> bool:
        """Whether those who got the signal with their leader have time left: a shell dies before what it waits for."""
        in_time = self._kill_at is not None and now < self._kill_at
        return in_time and self._reach == "group" and descendants.send_group(self.pid, 0)

    def _kill(self, now: float) -> None:
        if self._give_up_at is None:
            self._give_up_at = now + GIVE_UP_S
        killed = descendants.kill(self._roots())
        if self._cgroup is not None:
            self._cgroup.kill()
        if self.status is not None:
            self.left += len(killed - self._killed)  # not those who were killed with their leader
        self._killed |= killed
        if now >= self._give_up_at:
            self.gone = True

    def _roots(self) -> "List[int]":
        return descendants.children(os.getpid())

    def _reap(self) -> None:
        while not self.gone:
            try:
                pid, status = self.waited()
            except ChildProcessError:
                self.gone = True
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.status = status

    def waited(self) -> "Tuple[int, int]":
        """Return who has died and how, or 0, its usage noted; `ChildProcessError` when nobody is left."""
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        if pid:
            self.user_s += usage.ru_utime
            self.system_s += usage.ru_stime
            self.max_rss_kib = max(self.max_rss_kib, usage.ru_maxrss)
        return pid, status


def exit_code(status: "Optional[int]") -> "Optional[int]":
    """Return the exit code in a wait status; none if a signal ended it, or it was never seen to end."""
    return os.WEXITSTATUS(status) if status is not None and os.WIFEXITED(status) else None


def end_signal(status: "Optional[int]") -> "Optional[int]":
    """Return the signal in a wait status; none if it exited, or it was never seen to end."""
    return os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else None
