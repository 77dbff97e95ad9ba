"""PALS's mpiexec, as far as public sources tell: its help text (CrayLabs/SmartSim issue 354) and HPE's own older
front end (Cray-HPE/craycli, `cray/modules/mpiexec/cli.py`); refusals as quoted in mlcommons/storage 549 and 819.

Not confirmed of the C program: how long after TERM a rank gets KILL, and who gets its stdin.
"""

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

from ranks import Application, block, refuse
from words import last, options, spellings

KNOWN = spellings(
    {
        "-n -np --np": "np",
        "-ppn --ppn": "ppn",
        "-host --host -hosts --hosts -hostlist --hostlist": "hosts",
        "-hostfile --hostfile": "hostfile",
        "-wdir --wdir": "wdir",
        "-path --path": "path",
        "-umask --umask": "umask",
        "-env --env -genv --genv": "env",
        "-envlist --envlist": "envlist",
        "-envall --envall -genvall --genvall -envnone --envnone": "!env-choice",
        "--transfer --no-transfer": "!transfer",
        "--cpu-bind": "cpu-bind",
        "--mem-bind": "mem-bind",
        "--gpu-bind": "gpu-bind",
        "-d --depth": "depth",
        "-l --label --no-label --line-buffer --no-line-buffer --exclusive --shared --no-vni --verbose": "!other",
        "--abort-on-failure": "!abort",
        "--no-abort-on-failure": "!no-abort",
        "--pmi": "pmi",
        "--rlimits": "rlimits",
        "--version": "!version",
    }
)
BINDINGS = ("none", "thread", "core", "numa", "socket", "depth", "list:", "mask:")
FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGABRT,
    signal.SIGALRM,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
USAGE = "Usage: mpiexec [global options] [command options] cmd args [: [command options] cmd2 args2 ...]"


def main() -> int:
    """Understand the words, start the ranks, and end with their highest code."""
    found, command = options(sys.argv[1:], KNOWN, _unknown, _missing)
    if "version" in found:
        print("mpiexec version 1.8.0 revision fake")
        return 0
    if "PBS_JOBID" not in os.environ:
        refuse("mpiexec: no PBS job", 1)
    if not command:
        refuse(f"mpiexec: no command given\n{USAGE}", 1)
    binding = last(found, "cpu-bind", "none").removeprefix("verbose,")
    if not binding.startswith(BINDINGS):
        refuse(f"mpiexec: invalid cpu-bind '{binding}'", 1)
    listed = last(found, "hosts") or _of_file(last(found, "hostfile"))
    hosts, size, each = _hosts(listed), int(last(found, "np", "1")), int(last(found, "ppn", "0"))
    if not each or size != each * len(hosts):
        refuse(f"mpiexec: this stand-in takes as many ranks as hosts and --ppn make, not {size}", 1)

    def env(rank: int, local: int, size: int, node: int) -> dict[str, str]:
        both = {"RANK": rank, "SIZE": size, "LOCAL_RANK": local, "LOCAL_SIZE": each}
        own = {"PALS_RANKID": rank, "PALS_LOCAL_RANKID": local, "PALS_LOCAL_SIZE": each, "PALS_NODEID": node}
        told = {**{f"PMI_{name}": value for name, value in both.items()}, **own, "PALS_APID": "fake", "PALS_DEPTH": 1}
        return {name: str(value) for name, value in told.items()}

    application = Application("mpiexec", block(hosts, each, env), command, FORWARDED)
    code = application.wait(one_fails_all="no-abort" not in found)
    for rank, ended in application.codes.items():
        if ended:
            said = f"died from signal {ended - 128}" if ended > 128 else f"exited with code {ended}"
            sys.stderr.write(f"{hosts[rank // each]}: rank {rank} {said}\n")
    return code


def _of_file(path: str) -> str:
    """Return the hosts of a file: one a line, without comments and blank lines, and nothing else on a line."""
    lines = [line.partition("#")[0].strip() for line in Path(path).read_text().splitlines()] if path else []
    return ",".join(filter(None, lines))


def _hosts(listed: str) -> list[str]:
    granted = list(dict.fromkeys(Path(os.environ["PBS_NODEFILE"]).read_text().split()))
    hosts = listed.split(",") if listed else granted
    for host in hosts:
        if host not in granted:  # also `host:slots`, which it does not know
            refuse(f"mpiexec: launch failed on {host}: host is not in the allocation", 1)
    return hosts


def _unknown(word: str) -> NoReturn:
    refuse(f"mpiexec: unrecognized option '{word.partition('=')[0]}'\n{USAGE}", 1)


def _missing(word: str) -> NoReturn:
    refuse(f"mpiexec: option '{word}' requires an argument\n{USAGE}", 1)


if __name__ == "__main__":
    sys.exit(main())
