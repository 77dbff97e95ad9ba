"""A machine's batch script: resources, then one line of pilotwrap."""

import re
import shlex
from collections.abc import Iterator

from pilotwrap.model.base import Value
from pilotwrap.model.errors import BadInputError
from pilotwrap.model.job import Nodes
from pilotwrap.site.machines.machine import Machine, Minutes, Network
from pilotwrap.site.schedulers.listing import scheduler_named

LOOPBACK = ("localhost", "127.0.0.1")


class BatchRequest(Value):
    """What is filled in; left out: the file's own placeholders."""

    account: str | None = None
    queue: str | None = None
    nodes: Nodes | None = None
    minutes: Minutes | None = None
    words: tuple[str, ...] = ("run", "--spec", "job.json")
    """What pilotwrap is called with."""


def script_name(machine: Machine) -> str:
    """Return what a file with its script is called."""
    return machine.name + scheduler_named(machine.scheduler).SUFFIX


def batch_script(machine: Machine, request: BatchRequest) -> str:
    """Return the script; BadInputError when the machine has no batch system, or a value would break a line."""
    batch, scheduler = machine.batch, scheduler_named(machine.scheduler)
    if batch is None:
        raise BadInputError(
            f"{machine.name} has no batch script",
            why="its file has no [batch]",
            remedy="call `pilotwrap run` there by hand",
        )
    values = {
        "account": _word("account", batch.account if request.account is None else request.account),
        "queue": _word("queue", batch.queue if request.queue is None else request.queue),
        "nodes": str(request.nodes or batch.nodes),
        "time": scheduler.walltime(request.minutes or batch.minutes),
    }
    lines = (
        batch.shell,
        # a comment between these lines ends them on some machines and is one of them on others
        *(f"{scheduler.DIRECTIVE} {_filled(directive, values)}" for directive in batch.directives),
        "",
        f"# {machine.description}",
        *batch.before,
        *_proxies(machine.network),
        # in place of the shell, which would keep the batch system's signal until its command has ended
        f"exec pilotwrap {shlex.join(request.words)}",
    )
    return "\n".join(lines) + "\n"


def _proxies(network: Network) -> Iterator[str]:
    """Yield what leads out of the node, and not to the node itself: the pilot's server is on its loopback."""
    if network.http_proxy:
        yield f"export http_proxy={network.http_proxy} https_proxy={network.http_proxy}"
        inside = (*LOOPBACK, *filter(lambda name: name not in LOOPBACK, (network.no_proxy or "").split(",")))
        yield f'export no_proxy="{",".join(filter(None, inside))}"'


def _filled(directive: str, values: dict[str, str]) -> str:
    """Return a directive with its names filled in, each once: a value may look like a name."""
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), directive)


def _word(name: str, value: str) -> str:
    if not value.isprintable() or " " in value or not value:
        raise BadInputError(f"the {name} is {value!r}", why="one word is expected")
    return value
