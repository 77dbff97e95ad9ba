"""How a call is repeated: with full jitter, and never beyond its deadline."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Patience:
    """The waits between tries, and the clock, the sleep and the chance that they are made with.

    The n-th wait is anything from nothing to `first_s` * 2^n, at most `most_s`: thousands of nodes that lost the
    server together come back one by one. `clock` gives monotonic seconds, `chance` numbers from 0 to 1.
    """

    first_s: float = 0.5
    most_s: float = 30.0
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random

    def tries(self, deadline: float) -> Iterator[float]:
        """Yield the seconds left for each try: one in any case, then more while there is time."""
        number = 0
        while True:
            yield max(deadline - self.clock(), 0.0)
            bound = min(self.most_s, self.first_s * 2.0 ** min(number, 30))
            pause = bound * self.chance()
            if self.clock() + pause >= deadline:
                return
            self.sleep(pause)
            number += 1
