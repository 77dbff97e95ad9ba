"""Signals as bytes in a pipe, so that one poll waits for everything."""

import posix as os  # the same calls, without the 1.3 ms and 30 opened files of `os`

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Iterable, List
else:
    import _signal


def _noted(_number: int, _frame: object) -> None:
    """Do nothing: the interpreter has written the signal's number into the pipe already."""


class Wakeup:
    """The pipe into which every one of these signals writes its number."""

    def __init__(self, numbers: "Iterable[int]") -> None:
        self.fd, self._write = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write, False)
        _signal.set_wakeup_fd(self._write)
        for number in numbers:
            # what was ignored at the start (nohup) stays ignored
            if number == _signal.SIGCHLD or _signal.getsignal(number) != _signal.SIG_IGN:
                _signal.signal(number, _noted)

    def arrived(self) -> "List[int]":
        """Return the signals since the last call."""
        try:
            return list(os.read(self.fd, 4096))
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Give the pipe back; what is still to come is not told."""
        _signal.set_wakeup_fd(-1)
        os.close(self.fd)
        os.close(self._write)
