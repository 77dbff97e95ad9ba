"""`flux run`, `flux job timeleft` and `flux resource list`, by the manual pages of flux-core 0.88.

Jobs get cores and nodes as the instance has them (its messages are those of t2700-mini-cmd.t and of JobspecV1), first
come, first served; what is busy is waited for without a word.
"""

import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

import nodes
from ranks import Application, block, refuse
from words import last, options, spellings

HOSTS = nodes.named("node1,node2")
"""What this instance has."""

LIST = ["resource", "list", "-s", "up", "-no", "{nodelist} {ngpus}"]

KNOWN = spellings(
    {
        "-N --nodes": "nodes",
        "-n --ntasks": "ntasks",
        "-c --cores-per-task": "cores-per-task",
        "-g --gpus-per-task": "gpus-per-task",
        "-x --exclusive": "!exclusive",
        "--cores": "cores",
        "--tasks-per-node": "tasks-per-node",
        "--gpus-per-node": "gpus-per-node",
        "-q --queue": "queue",
        "-t --time-limit": "time-limit",
        "--requires": "requires",
        "--env": "env",
        "--env-remove": "env-remove",
        "--input": "input",
        "--output": "output",
        "--error": "error",
        "-u --unbuffered": "!unbuffered",
        "-l --label-io": "!label-io",
        "-o --setopt": "setopt",
        "-S --setattr": "setattr",
        "--taskmap": "taskmap",
        "--cwd": "cwd",
        "--job-name": "job-name",
    }
)
PER_TASK, PER_RESOURCE = {"ntasks", "cores-per-task", "gpus-per-task"}, {"cores", "tasks-per-node", "gpus-per-node"}
SHELL = ("cpu-affinity", "gpu-affinity", "exit-timeout", "exit-on-error", "pmi", "pty", "output.limit", "nosetpgrp")
FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)


def main(words: list[str]) -> int:
    """Answer a question, or run."""
    if "FLUX_URI" not in os.environ:
        refuse("flux-run: ERROR: Unable to connect to Flux: broker socket /run/flux/local was not found", 1)
    if words[:2] == ["job", "timeleft"]:
        print(600)
    elif words == LIST:
        print(f"{','.join(HOSTS)} {len(HOSTS) * nodes.each_has()[1]}")
    elif words[:1] == ["run"]:
        return run(words[1:])
    else:
        refuse(f"flux: `{words[0]}' is not a flux command.  See 'flux --help'", 1)
    return 0


def run(words: list[str]) -> int:
    """Understand the words, start the ranks, and end with their highest code."""
    found, command = options(words, KNOWN, _unknown, _missing, joined=True)
    if PER_TASK & set(found) and PER_RESOURCE & set(found):
        _error("Per-resource options can't be used with per-task options. (See --help for details)")
    shell = dict.fromkeys(option.partition("=")[0] for option in found.get("setopt", []))
    if not command or not set(shell) <= set(SHELL):
        _error("job command and arguments are missing" if not command else f"unknown shell option in {list(shell)}")
    required = re.fullmatch(r"(?:host|hosts|hostlist):(.*)", last(found, "requires", f"hosts:{','.join(HOSTS)}"))
    allowed = _expanded(required[1]) if required else []
    wish, each = _wish(found, [host for host in HOSTS if host in allowed]), int(last(found, "tasks-per-node", "1"))
    if not nodes.possible(wish):
        sys.stderr.write("flux-job: ƒfake exception type=alloc severity=0: unsatisfiable request\n")
        return 1
    hosts = nodes.taken(wish)

    def env(rank: int, local: int, size: int, _node: int) -> dict[str, str]:
        told = {"FLUX_TASK_RANK": rank, "FLUX_TASK_LOCAL_ID": local, "FLUX_JOB_SIZE": size}
        told["FLUX_JOB_NNODES"] = len(hosts)
        told |= {"PMI_RANK": rank, "PMI_SIZE": size}
        return {**{name: str(value) for name, value in told.items()}, "FLUX_JOB_ID": "ƒfake"}

    application = Application("flux", block(hosts, each, env), command, FORWARDED)
    return application.wait(one_fails_all="exit-on-error" in shell)


def _wish(found: Mapping[str, Sequence[str]], among: Sequence[str]) -> nodes.Wish:
    """Return what the job asks for; as many tasks as it has need a core each."""
    count, cores, gpus = (int(last(found, name, "0")) for name in ("nodes", "cores", "gpus-per-node"))
    alone = "exclusive" in found
    if not count and (alone or gpus):
        _error("exclusive can only be set with a node count" if alone else "gpus-per-node requires --nodes")
    if "tasks-per-node" in found and not (cores or alone):
        _error("Specifying nnodes also requires ncores or exclusive")
    if count and cores and (cores < count or cores % count):
        _error("number of cores must be evenly divisible by node count")
    per_task = int(last(found, "ntasks", "1")) * int(last(found, "cores-per-task", "1"))
    return nodes.Wish(among, count or 1, (cores or per_task) // (count or 1), gpus, alone)


def _expanded(text: str) -> list[str]:
    """Return the hosts of a list in RFC 29's form, one bracket a word."""
    found: list[str] = []
    for before, inside, after in re.findall(r"([^][,]+)(?:\[([0-9,-]+)\])?([^][,]*)", text):
        for part in inside.split(",") if inside else [""]:
            first, _, end = part.partition("-")
            numbers = range(int(first), int(end or first) + 1) if part else [None]
            found += [before + ("" if n is None else str(n).zfill(len(first))) + after for n in numbers]
    return found


def _unknown(word: str) -> NoReturn:
    refuse(f"usage: flux run [OPTIONS...] COMMAND [ARGS...]\nflux run: error: unrecognized arguments: {word}", 2)


def _missing(word: str) -> NoReturn:
    refuse(f"flux run: error: argument {word}: expected one argument", 2)


def _error(text: str) -> NoReturn:
    refuse(f"flux-run: ERROR: {text}", 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
