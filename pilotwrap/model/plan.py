"""`pilotwrap.plan/1`: all that will be done, as data; the answer of `plan --json`."""

from typing import Literal

from pydantic import Field

from pilotwrap.model.base import Value
from pilotwrap.model.job import Mode, RankOutput

Teller = Literal["panda", "harvester", "caller"]


class Launch(Value):
    """How the ranks are started: one launcher call, or with an empty argv one process a rank by the starter."""

    argv: tuple[str, ...]
    env: dict[str, str] = {}
    """Set for the launcher (and so for every rank)."""

    unset: tuple[str, ...] = ()
    """Inherited names that would disturb the launch."""

    keep: tuple[str, ...] = ()
    """Patterns of inherited names that are passed on; nothing else is."""

    files: dict[str, str] = {}
    """What the launcher reads besides its words, by path; written before it is started, readable by its user alone."""

    heeds: Literal["code", "signal"] = "code"
    """What of a rank's end makes this launcher end the others; signal: an exit code alone does not."""

    waits: bool = False
    """It queues ranks that cannot begin now, without a word and without an end."""


class Container(Value):
    """What a rank runs inside of."""

    kind: str = "none"
    argv: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()


class Agent(Value):
    """Who runs the job: this program, or PanDA's own pilot."""

    kind: Literal["none", "direct", "pilot3"] = "none"
    argv: tuple[str, ...] = ()


class Binding(Value):
    """What one local rank gets, on every node alike."""

    local_rank: int
    cpus: str | None
    """CPU list; None: not bound."""

    accelerators: tuple[str, ...] = ()
    env: dict[str, str] = {}
    devices: tuple[str, ...] = ()
    """The PCI addresses of its accelerators: what the rank shim looks for on its node."""

    counted: tuple[str, ...] = ()
    """The addresses among which `env` numbers them; none: it names them by UUID."""


class Limits(Value):
    """When it ends."""

    walltime_s: float | None
    """Of the command itself."""

    stop_at: float | None
    """Seconds from now when the payload gets TERM, so that all is told in time; None: no limit is known."""

    kill_grace_s: float
    """Between our TERM and our KILL."""


class RankVariables(Value):
    """What this launcher calls a rank, a local rank and the size; the first that is set counts."""

    rank: tuple[str, ...] = ()
    local_rank: tuple[str, ...] = ()
    size: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    """The node's name as the scheduler has it; none: the kernel's own name of it."""


class Because(Value):
    """A decision and the fact that led to it."""

    decision: str
    reason: str


class Plan(Value):
    """A launch, ready to be done."""

    schema_: Literal["pilotwrap.plan/1"] = Field(default="pilotwrap.plan/1", alias="schema")
    mode: Mode
    nodes: tuple[str, ...]
    ranks_per_node: int
    command: tuple[str, ...]
    launch: Launch
    rank_variables: RankVariables = RankVariables()
    container: Container = Container()
    agent: Agent = Agent()
    bindings: tuple[Binding, ...]
    limits: Limits
    rank_output: RankOutput = "merged"
    teller: Teller
    because: tuple[Because, ...]

    @property
    def ranks(self) -> int:
        """Return how many ranks there are in all."""
        return len(self.nodes) * self.ranks_per_node
