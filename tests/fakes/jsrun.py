"""IBM's jsrun, by the options of olcf-user-docs, `systems/summit_user_guide.rst`; resource files by the beginning of
IBM's page on them (JSM 10.1, `erf_format`), olcf-tutorials/ERF-CPU-Indexing and files that users publish.

Not confirmed: the wording and code of its refusals, the list of signals that it passes on (TERM is assumed), and how
its own code follows from the ranks' (the highest is assumed).
"""

import os
import re
import signal
import sys
from pathlib import Path
from typing import NoReturn

import nodes
from ranks import Application, Rank, block, refuse
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
    abort = last(found, "exit-on-error", "0") == "1"
    if "erf" in found:
        if {"nrs", "np", "tasks", "cpus", "gpus", "per-host", "bind"} & set(found):
            refuse("Error: a resource file says all of the resource sets", 1)
        ranks = _of_file(Path(last(found, "erf")).read_text())
        hosts = list(dict.fromkeys(rank.host for rank in ranks))
        nodes.taken(nodes.Wish(hosts, len(hosts), alone=True))
        return Application("jsrun", ranks, command, FORWARDED).wait(one_fails_all=abort)
    sets, per_host, each = (int(last(found, name, "1")) for name in ("nrs", "per-host", "tasks"))
    if sets % per_host:
        refuse(f"Error: {per_host} resource sets per host do not divide {sets} evenly", 1)
    # the step is queued until there are resources for it, without a word, and where there never are without an end
    hosts = nodes.taken(nodes.Wish(_hosts(), sets // per_host, alone=last(found, "cpus") == "ALL_CPUS"))
    return Application("jsrun", block(hosts, per_host * each, _env), command, FORWARDED).wait(one_fails_all=abort)


def _env(rank: int, local: int, size: int, _node: int) -> dict[str, str]:
    told = {"JSM_NAMESPACE_RANK": rank, "JSM_NAMESPACE_LOCAL_RANK": local, "JSM_NAMESPACE_SIZE": size}
    return {name: str(value) for name, value in {**told, "PMIX_RANK": rank}.items()}


PREAMBLE = {
    "cpu_index_using": {"logical", "physical"},
    "launch_distribution": {"packed", "cyclic"},
    **{key: {"allow", "warn", "error"} for key in ("overlapping_rs", "oversubscribe_cpu", "oversubscribe_gpu")},
}
GROUPS = r"\{\d+(?:-\d+)?\}"
LINE = re.compile(
    rf"rank: (?P<rank>\d+): \{{ host: (?P<host>\d+); cpu: (?P<cpu>{GROUPS})(?: ; gpu: (?P<gpu>{GROUPS}))? \}}"
)


def _of_file(text: str) -> list[Rank]:
    """Return the ranks of a resource file of one rank a set; what was not seen in any public one is refused."""
    said: dict[str, str] = {}
    seen: dict[tuple[str, str], str] = {}
    hosts: list[str] = []
    if not text.endswith("\n"):
        refuse("Error: the resource file does not end with a line break", 1)  # a user of Savanna's says so
    for line in text.splitlines():
        key, _, value = line.partition(": ")
        if value in PREAMBLE.get(key, ()) and not hosts:
            said[key] = value
            continue
        match = LINE.fullmatch(line)
        if not match or int(match["rank"]) != len(hosts) or not 1 <= int(match["host"]) <= len(_hosts()):
            refuse(f"Error: invalid line in the resource file: {line}", 1)
        for kind, key in (("cpu", "oversubscribe_cpu"), ("gpu", "oversubscribe_gpu")):
            share = match[kind]
            shared = share and seen.setdefault((match["host"], kind + share), match["rank"]) != match["rank"]
            if shared and "error" in (said.get(key, "error"), said.get("overlapping_rs", "error")):
                refuse(f"Error: rank {match['rank']} overlaps another's resources", 1)
        hosts.append(_hosts()[int(match["host"]) - 1])
    placed = [(rank, hosts[:rank].count(host), host) for rank, host in enumerate(hosts)]
    return [Rank(rank, local, host, _env(rank, local, len(hosts), 0)) for rank, local, host in placed]


def _hosts() -> list[str]:
    """Return the compute hosts: on such a machine the first host, with one slot, is the launch node."""
    words = os.environ["LSB_MCPU_HOSTS"].split()
    pairs = list(zip(words[::2], map(int, words[1::2]), strict=True))
    return [host for host, _ in (pairs[1:] if pairs[0][1] == 1 and len(pairs) > 1 else pairs)]


def _unknown(word: str) -> NoReturn:
    refuse(f"jsrun: unrecognized option '{word}'", 1)


if __name__ == "__main__":
    sys.exit(main())
