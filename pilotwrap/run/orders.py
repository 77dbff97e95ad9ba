"""A Plan as orders to the starter: one spawn a rank, or one for the launcher which starts a shim a rank."""

from typing import Any

from pilotwrap.model.plan import Binding, Plan
from pilotwrap.site.accelerators.vendors import ALL_MASKS

OUTPUT_CAP = 16 * 1024 * 1024
"""Bytes kept of a rank's stdout, and of its stderr; the log tarball takes no more either (a guess)."""

RANKS = "ranks"
"""The folder of a job's directory in which its ranks have files of their own."""

RANK_VARIABLES = ("PILOTWRAP_RANK", "PILOTWRAP_LOCAL_RANK", "PILOTWRAP_SIZE")
"""What a rank of mode `copies` is told where no launcher tells it (docs/running.md)."""

Order = dict[str, Any]
"""One line for the starter; docs/wire.md has the keys."""


class Payload:
    """What the orders of one job need besides its plan: where it runs, as whom, and where its words go."""

    def __init__(self, name: str, cwd: str, output: str, user: dict[str, Any] | None, *, apart: bool = False) -> None:
        self.name = name
        self.cwd = cwd
        self.output = output
        self.user = user
        self.apart = apart
        """In a PID namespace of its own where the kernel allows it, and not the leader of its session."""


def spawns(plan: Plan, payload: Payload) -> list[Order]:
    """Return the orders that start every rank of a plan."""
    if plan.launch.argv:
        return [_spawn(plan, payload, None)]
    return [_spawn(plan, payload, binding) for binding in plan.bindings]


def signals(spawn_ids: set[str], grace_s: float) -> list[Order]:
    """Return the orders that end these spawns: TERM, and KILL after the grace."""
    return [{"do": "signal", "id": one, "signal": 15, "grace_s": grace_s} for one in sorted(spawn_ids)]


def kills(spawn_ids: set[str]) -> list[Order]:
    """Return the orders that end these spawns at once."""
    return [{"do": "signal", "id": one, "signal": 9, "grace_s": 0.0} for one in sorted(spawn_ids)]


def shim_file(plan: Plan, payload: Payload, results: str) -> dict[str, Any]:
    """Return what the rank shim reads on every node."""
    names = plan.rank_variables
    return {
        "protocol": 1,
        "rank": list(names.rank),
        "local_rank": list(names.local_rank),
        "size": list(names.size),
        "host": list(names.host),
        "bindings": [_promised(binding) for binding in plan.bindings],
        "argv": [*plan.container.argv, *plan.command],
        "keep": list(plan.launch.keep),
        "env": plan.launch.env,
        # the launcher's own words to each rank are as new as the rank; a device mask of its is not the plan's
        "unset": list(ALL_MASKS),
        "cwd": payload.cwd,
        "grace_s": plan.limits.kill_grace_s,
        "results": results,
        "begun": begun_mark(results) if plan.launch.waits else None,
        "fail_by": plan.launch.heeds if plan.mode == "mpi" else "code",
        "output": f"{payload.output}/{RANKS}" if plan.rank_output == "per-rank" else None,
        "output_cap": OUTPUT_CAP,
    }


def begun_mark(results: str) -> str:
    """Return the file that rank 0 makes when it begins."""
    return f"{results}/begun"


def _promised(binding: Binding) -> dict[str, Any]:
    return {
        "local_rank": binding.local_rank,
        "cpus": binding.cpus,
        "env": binding.env,
        "devices": list(binding.devices),
        "counted": list(binding.counted),
    }


def _spawn(plan: Plan, payload: Payload, binding: Binding | None) -> Order:
    rank = binding.local_rank if binding else None
    out, err = _outputs(plan, payload, rank)
    return {
        "do": "spawn",
        "id": f"{payload.name}/{'launch' if rank is None else rank}",
        "argv": list(plan.launch.argv) or [*plan.container.argv, *plan.command],
        "keep": list(plan.launch.keep),
        "env": {**plan.launch.env, **(_rank_env(plan, binding) if binding else {})},
        "unset": list(plan.launch.unset),
        "cwd": payload.cwd,
        "session": "child" if payload.apart else "new",
        "pid_namespace": payload.apart,
        "stdin": "null" if binding else "lifeline",
        "stdout": out,
        "stderr": err,
        "output_cap": OUTPUT_CAP,
        "cpus": binding.cpus if binding else None,
        "devices": list(binding.devices) if binding else [],
        "counted": list(binding.counted) if binding else [],
        "user": payload.user,
        "wall_s": plan.limits.walltime_s,
        "grace_s": plan.limits.kill_grace_s,
    }


def _outputs(plan: Plan, payload: Payload, rank: int | None) -> tuple[str, str]:
    if rank is not None and plan.rank_output == "per-rank":
        return f"{payload.output}/{RANKS}/{rank}.out", f"{payload.output}/{RANKS}/{rank}.err"
    suffix = "" if rank is None or len(plan.bindings) == 1 else f".{rank}"
    return f"{payload.output}/stdout{suffix}", f"{payload.output}/stderr{suffix}"


def _rank_env(plan: Plan, binding: Binding) -> dict[str, str]:
    said = dict(zip(RANK_VARIABLES, (binding.local_rank, binding.local_rank, plan.ranks), strict=True))
    return {**{name: str(value) for name, value in said.items()}, **binding.env}
