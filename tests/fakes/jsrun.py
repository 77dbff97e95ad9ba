"""IBM's jsrun, by the options of olcf-user-docs, `systems/summit_user_guide.rst`.

Not confirmed: the wording and code of its refusals, the list of signals that it passes on (TERM is assumed), and how
its own code follows from the ranks' (the highest is assumed).
"""

import os
import signal
import sys
from typing import NoReturn

from ranks import Application, block, refuse
from words import last, options, spellings

KNOWN = spellings(
    {
        "--nrs -n": "nrs",
        "--np -p": "np",
        "--tasks_per_rs -a": "tasks",
        "--cpu_per_rs -c": "cpus",
        "--gpu_per_rs -g": "gpus",
        "--rs_per_host -r": "per-host",
        "--bind -b": "bind",
        "--latency_priority -l": "latency",
        "--launch_distribution -d": "distribution",
        "--smpiargs": "smpiargs",
        "--env -E -D": "env",
        "--stdio_mode": "stdio-mode",
        "--stdio_stdout -o": "stdout",
        "--stdio_stderr -k": "stderr",
        "--immediate -i": "!immediate",
        "--erf_input -U": "erf",
        "--exit_on_error -X": "exit-on-error",
        "--chdir -h": "chdir",
        "--version": "!version",
    }
)
FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def main() -> int:
    """Understand the words, start the ranks, and end with their highest code."""
    found, command = options(sys.argv[1:], KNOWN, _unknown, _unknown, joined=True)
    if "LSB_JOBID" not in os.environ:
        refuse("Error: jsrun must be run inside of a job allocation", 1)
    bind = last(found, "bind", "packed:1")
    if bind not in {"none", "rs"} and not bind.startswith(("packed:", "proportional-packed:")):
        refuse(f"Error: invalid bind value {bind}", 1)
    if not command:
        refuse("Error: no program was given", 1)
    sets, per_host, each = (int(last(found, name, "1")) for name in ("nrs", "per-host", "tasks"))
    if sets % per_host:
        refuse(f"Error: {per_host} resource sets per host do not divide {sets} evenly", 1)
    hosts = _hosts()
    if sets // per_host > len(hosts):
        # the step is queued until there are resources for it, without a word and without an end
        signal.pause()
    each_host = per_host * each

    def env(rank: int, local: int, size: int, _node: int) -> dict[str, str]:
        told = {"JSM_NAMESPACE_RANK": rank, "JSM_NAMESPACE_LOCAL_RANK": local, "JSM_NAMESPACE_SIZE": size}
        return {name: str(value) for name, value in {**told, "PMIX_RANK": rank}.items()}

    application = Application("jsrun", block(hosts[: sets // per_host], each_host, env), command, FORWARDED)
    return application.wait(one_fails_all=last(found, "exit-on-error", "0") == "1")


def _hosts() -> list[str]:
    """Return the compute hosts: on such a machine the first host, with one slot, is the launch node."""
    words = os.environ["LSB_MCPU_HOSTS"].split()
    pairs = list(zip(words[::2], map(int, words[1::2]), strict=True))
    return [host for host, _ in (pairs[1:] if pairs[0][1] == 1 and len(pairs) > 1 else pairs)]


def _unknown(word: str) -> NoReturn:
    refuse(f"jsrun: unrecognized option '{word}'", 1)


if __name__ == "__main__":
    sys.exit(main())
