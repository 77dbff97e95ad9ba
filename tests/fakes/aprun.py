"""Cray's aprun, by aprun(1) of ALPS (HPE a00114008): it tells a rank its number and nothing else."""

import os
import signal
import sys
from typing import NoReturn

import nodes
from ranks import Application, block, refuse
from words import last, options, spellings

KNOWN = spellings(
    {
        "-n --pes": "pes",
        "-N --pes-per-node": "per-node",
        "-d --cpus-per-pe": "depth",
        "-j --cpus-per-cu": "per-cu",
        "-S --pes-per-numa-node": "per-numa",
        "-cc --cc --cpu-binding": "binding",
        "-cp --cpu-binding-file": "binding-file",
        "-r --specialized-cpus": "specialized",
        "-L --node-list": "nodes",
        "-l --node-list-file": "nodes-file",
        "-E --exclude-node-list": "exclude",
        "-e --environment-override --env": "env",
        "-m --memory-per-pe": "memory",
        "-F --access-mode": "access",
        "-t": "cpu-time",
        "-q --quiet": "!quiet",
        "-T --sync-output": "!sync",
        "-b --bypass-app-transfer": "!bypass",
        "--version": "!version",
    }
)
FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGABRT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGURG,
    signal.SIGWINCH,
)


def main() -> int:
    """Understand the words, start the ranks, and end with their highest code."""
    found, command = options(sys.argv[1:], KNOWN, _unknown, _missing)
    if "COBALT_JOBID" not in os.environ:
        refuse("aprun: no resources reserved: not inside of a batch job", 1)
    if not command:
        refuse("aprun: no application was named", 1)
    granted = _numbers(os.environ["COBALT_PARTNAME"])
    numbers = _numbers(last(found, "nodes")) or granted
    size = int(last(found, "pes", "1"))
    each = int(last(found, "per-node", str(size)))
    hosts = [f"nid{number:05}" for number in numbers]
    # what one aprun holds no other gets, however little of it the first one uses
    free = set(numbers) <= set(granted) and nodes.taken_now(nodes.Wish(hosts, len(hosts), alone=True))
    if not free or size > each * len(hosts):
        refuse("apsched: claim exceeds reservation's node-count", 1)  # the wording is from memory
    if size != each * len(hosts):
        refuse(f"aprun: this stand-in takes as many ranks as nodes and -N make, not {size}", 1)

    def env(rank: int, _local: int, _size: int, _node: int) -> dict[str, str]:
        return {"ALPS_APP_PE": str(rank), "ALPS_APP_ID": "7", "ALPS_APP_DEPTH": last(found, "depth", "1")}

    application = Application("aprun", block(hosts, each, env), command, FORWARDED)
    code = application.wait(one_fails_all=False)
    bad = sorted(set(application.codes.values()) - {0}, reverse=True)[:4]
    if "quiet" not in found and bad:
        print(f"Application 7 exit codes: {', '.join(map(str, bad))}")
    return code


def _numbers(listed: str) -> list[int]:
    found: list[int] = []
    for part in filter(None, listed.split(",")):
        first, _, end = part.partition("-")
        found += range(int(first), int(end or first) + 1)
    return found


def _unknown(word: str) -> NoReturn:
    refuse(f"aprun: unrecognized option '{word}'\nUsage: aprun [global_options] [command_options] cmd1", 1)


def _missing(word: str) -> NoReturn:
    refuse(f"aprun: option '{word}' requires an argument", 1)


if __name__ == "__main__":
    sys.exit(main())
