"""A few threads for what may block: files that travel, archives, the network."""

import queue
import threading
from collections.abc import Callable


class Workers:
    """Runs tasks in the order in which they come, on at most `count` threads, started as they are needed."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._threads = 0
        self._busy = 0
        self._lock = threading.Lock()

    def submit(self, task: Callable[[], None]) -> None:
        """Queue a task; it must not raise."""
        with self._lock:
            self._busy += 1
            if self._threads < min(self._count, self._busy):
                self._threads += 1
                threading.Thread(target=self._work, name=f"worker-{self._threads}", daemon=True).start()
        self._tasks.put(task)

    def _work(self) -> None:
        while True:
            self._tasks.get()()
            with self._lock:
                self._busy -= 1
