"""A controller for tests: what the starter says goes to a socket, what the test says goes to the starter."""

import os
import socket
import sys
import threading
from collections.abc import Callable


def pump(read: Callable[[int], bytes], write: Callable[[bytes], object], at_end: Callable[[], object]) -> None:
    while True:
        data = read(1 << 16)
        if not data:
            break
        write(data)
    at_end()


def main() -> None:
    link = socket.socket(socket.AF_UNIX)
    link.connect(sys.argv[1])
    link.sendall(b"%d\n" % os.getpid())

    def out(data: bytes) -> None:
        while data:
            data = data[os.write(1, data) :]

    upward = threading.Thread(
        target=pump, args=(lambda n: os.read(0, n), link.sendall, lambda: os._exit(0)), daemon=True
    )
    upward.start()
    pump(link.recv, out, lambda: None)


main()
