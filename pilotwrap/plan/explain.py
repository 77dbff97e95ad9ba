"""A Plan for people: why, what it costs, and the exact line that one could run by hand."""

import shlex

from pilotwrap.model.plan import Plan


def explained(plan: Plan) -> str:
    """Return the decisions with their reasons, the node-hours, and one line for a shell."""
    lines = [f"{because.decision}\n    because {because.reason}" for because in plan.because]
    return "\n".join((*lines, "", _cost(plan), "", "by hand:", f"  {by_hand(plan)}"))


def by_hand(plan: Plan) -> str:
    """Return the line; without a launcher the first rank's own."""
    if plan.launch.argv:
        return shlex.join(plan.launch.argv)
    bound = plan.bindings[0].cpus
    prefix = ["taskset", "-c", bound] if bound else []
    variables = [f"{name}={value}" for name, value in sorted(plan.bindings[0].env.items())]
    return shlex.join([*(["env", *variables] if variables else []), *prefix, *plan.command])


def _cost(plan: Plan) -> str:
    walltime = plan.limits.walltime_s if plan.limits.walltime_s is not None else plan.limits.stop_at
    if walltime is None:
        return f"{len(plan.nodes)} nodes, without a limit of time"
    return f"at most {len(plan.nodes) * walltime / 3600:.2f} node-hours ({len(plan.nodes)} nodes, {walltime:.0f} s)"
