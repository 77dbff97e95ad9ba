"""A payload in a PID namespace of its own, until nothing of it is left."""

import os

from pilotwrap.host import descendants, ward

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import List

    from pilotwrap.host.cgroup import Cgroup
    from pilotwrap.host.init import Init
else:
    import _signal


class Inmates(ward.Ward):
    """A payload that is the child of an init, and all else below it; the caller's only child is that init.

    `fd`: readable when the payload has ended, or init. `lost`: init ended first, and took all with it.
    """

    def __init__(self, init: "Init", *, cgroup: "Cgroup", lifeline: int, reach: str) -> None:
        super().__init__(init.payload, cgroup=cgroup, lifeline=lifeline, reach=reach)
        self._init = init.pid
        self.fd = init.fd
        self.lost = False

    def hear(self) -> bool:
        """Take the payload's status if it has come; false at the end of what init can say."""
        try:
            said = os.read(self.fd, 100)
        except BlockingIOError:
            return True
        if said:
            self.status = int(said)
        return bool(said)

    def _roots(self) -> "List[int]":
        return descendants.children(self._init)

    def _kill(self, now: float) -> None:
        """Kill all but init at first: it reaps them, so that what they used is counted; it ends with its last child."""
        again = self._give_up_at is not None
        super()._kill(now)
        if self.gone or (again and self.status is not None):
            descendants.send(self._init, _signal.SIGKILL)

    def _reap(self) -> None:
        known = self.gone
        super()._reap()
        self.hear()
        if self.gone and not known and self.status is None:
            self.lost = True
            self.status = _signal.SIGKILL  # what the kernel sends to all whose init dies
