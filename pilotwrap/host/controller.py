"""How the controller is started."""

import os

from pilotwrap.host.launch import Launch, own_environment, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Tuple


def start_controller(argv: "List[str]") -> "Tuple[int, int, int]":
    """Start the controller; its pid, the pipe to it and the pipe from it.

    It gets a session of its own, so that a terminal's signal to the group meets the starter only, and is deaf to what
    batch systems send: Slurm's scancel and time limit send TERM to every process of the job, one by one. The starter
    tells it of the end, and ends it by KILL. Should the starter be killed itself, the controller reads the end of its
    input, tells what is left to tell, and ends.
    """
    read_in, write_in = os.pipe()
    read_out, write_out = os.pipe()
    launch = Launch(argv, own_environment())
    launch.session = "new"
    launch.deaf = True
    launch.wakes_without_parent = True
    launch.fds = (read_in, write_out, 2)
    try:
        pid = start(launch)
    finally:
        os.close(read_in)
        os.close(write_out)
    return pid, write_in, read_out
