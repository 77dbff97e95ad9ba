"""A job and the facts of its nodes to a Plan: every command, binding, limit, and why. Pure."""

from pilotwrap.model.cpulist import cpus_of
from pilotwrap.model.errors import AllocationError, BadInputError, LauncherError
from pilotwrap.model.job import JobSpec
from pilotwrap.model.node import NodeFacts
from pilotwrap.model.plan import Agent, Because, Binding, Launch, Plan, RankVariables
from pilotwrap.plan.binding import bindings, withheld
from pilotwrap.plan.limits import limits
from pilotwrap.plan.request import PlanRequest
from pilotwrap.site.accelerators.vendors import ALL_MASKS
from pilotwrap.site.launchers.listing import BINDING_OF_OTHERS, WIRING, LauncherKind, launcher_named
from pilotwrap.site.launchers.request import LaunchRequest, Part
from pilotwrap.site.launchers.version import MPIEXEC
from pilotwrap.site.listing import passed_on
from pilotwrap.site.schedulers.nodelist import folded


def plan(request: PlanRequest) -> Plan:
    """Return the Plan; BadInputError, AllocationError or LauncherError say why there is none."""
    _refuse_what_is_not_built(request.job)
    hosts, why_hosts = _hosts(request)
    if request.job.mode == "driver":
        return _of_driver(request, hosts, why_hosts)
    bound, why_bound = bindings(request)
    limit, why_limit = limits(request.allocation.head.allocation, request.job.walltime_s, request.tell_s)
    launch, variables, why_launch = _launch(request, hosts, bound)
    return Plan(
        mode=request.job.mode,
        nodes=hosts,
        ranks_per_node=request.job.ranks_per_node,
        command=request.job.command or (),
        launch=launch,
        rank_variables=variables,
        agent=Agent(kind=request.agent, argv=(request.job.command or ()) if request.agent == "pilot3" else ()),
        bindings=bound,
        limits=limit,
        rank_output=request.job.rank_output if request.job.ranks > 1 else "merged",
        teller=request.teller,
        because=(
            *(why_hosts, why_launch, why_bound, why_limit, _why_teller(request), _why_exposed(request)),
            *request.agent_because,
        ),
    )


def _of_driver(request: PlanRequest, hosts: tuple[str, ...], why_hosts: Because) -> Plan:
    """Return the plan of one process beside us, unbound; its steps get the nodes."""
    own = {"mode": "copies", "nodes": 1, "ranks_per_node": 1, "gpus_per_rank": 0, "binding": "none"}
    here = {"hosts": (request.allocation.head.host,), "cores": None, "devices": None}
    made = plan(request.model_copy(update={**here, "job": request.job.model_copy(update=own)}))
    why = Because(decision="the driver runs beside its controller, unbound", reason="its steps get the nodes")
    return made.model_copy(update={"mode": "driver", "nodes": hosts, "because": (why_hosts, why, *made.because)})


def _refuse_what_is_not_built(job: JobSpec) -> None:
    missing = {
        "image": job.image is not None,
        "runtime": job.runtime is not None,
        "environment": bool(job.environment),
    }
    for what, asked in missing.items():
        if asked:
            raise BadInputError(f"this release cannot do {what!r}", remedy="leave it out of the spec")


def _hosts(request: PlanRequest) -> tuple[tuple[str, ...], Because]:
    fit, wanted = request.hosts or request.allocation.hosts, request.job.nodes
    if wanted > len(fit):
        aside = "".join(f"; {node.host} is set aside: {node.detail}" for node in request.allocation.unfit)
        granted = request.allocation.head.allocation.node_count
        kind = AllocationError if wanted <= granted else BadInputError
        raise kind(
            f"the job asks for {wanted} nodes",
            why=f"{len(fit)} of {granted} are there for it{aside}",
            remedy="lower nodes, or ask the batch system for more",
        )
    scheduler = request.allocation.head.allocation.scheduler
    return fit[:wanted], Because(decision=f"nodes {folded(fit[:wanted])}", reason=f"{scheduler} gives {len(fit)}")


def _launch(
    request: PlanRequest, hosts: tuple[str, ...], bound: tuple[Binding, ...]
) -> tuple[Launch, RankVariables, Because]:
    head, job = request.allocation.head, request.job
    kind = launcher_named(head.launcher.command, head.launcher.flavour)
    unset = (*ALL_MASKS, *WIRING, *BINDING_OF_OTHERS)
    here = _is_here(hosts, head)
    held = withheld(bound, head) if here and kind else ""
    if here and job.mode != "mpi" and not held:
        own = Launch(argv=(), env=request.agent_env, unset=unset, keep=passed_on())
        return own, RankVariables(), Because(decision="started by the starter itself", reason="one node, no MPI")
    if kind is None:
        raise _no_launcher(request, hosts)
    launch = kind.command(_launch_request(request, kind, hosts))
    launch = launch.model_copy(update={"keep": passed_on(), "unset": (*launch.unset, *unset)})
    why = held or f"{head.launcher.path} is there"
    because = Because(decision=f"started by {kind.FLAVOUR or kind.NAME}", reason=why)
    return launch, kind.VARIABLES, because


def _is_here(hosts: tuple[str, ...], head: NodeFacts) -> bool:
    return hosts == (head.host,) or head.allocation.is_this_node


def _no_launcher(request: PlanRequest, hosts: tuple[str, ...]) -> LauncherError:
    head = request.allocation.head
    what = f"{len(hosts)} nodes need" if len(hosts) > 1 else f"{hosts[0]}, where we are not, needs"
    nobody = head.programs.get(MPIEXEC)
    seen = f"; {nobody} is no MPI's that is known" if nobody else ""
    return LauncherError(
        "an MPI job needs a launcher" if request.job.mode == "mpi" else f"{what} a launcher",
        why=f"none that works in an allocation of {head.allocation.scheduler!r} is on PATH{seen}",
        remedy="load the site's module",
    )


def _launch_request(request: PlanRequest, kind: LauncherKind, hosts: tuple[str, ...]) -> LaunchRequest:
    head, job = request.allocation.head, request.job
    return LaunchRequest(
        program=head.launcher.path or next(iter(kind.PROGRAMS), MPIEXEC),
        hosts=hosts,
        hosts_file=request.shim[-1].removesuffix("shim.json") + "hosts",
        part=_part(request),
        ranks_per_node=job.ranks_per_node,
        one_fails_all=job.mode == "mpi",
        mpi_types=head.launcher.mpi_types,
        mpi_type=head.launcher.mpi_type,
        options=job.launcher_options,
        gpus_per_node=head.allocation.gpus_per_node,
        here=hosts[0] if head.allocation.node_count == 1 else head.host,
        granted=head.allocation.nodes,
        aside=tuple(node.host for node in request.allocation.unfit),
        cpus_per_node=len(cpus_of(request.node.cpus.granted)),
        devices_per_node=len(request.node.accelerators),
        command=request.shim,
    )


def _part(request: PlanRequest) -> Part | None:
    """Return what the job has of each node, if others may have the rest of it."""
    if request.cores is None or set(request.node.cpus.cores) <= set(request.cores):
        return None
    counted = bool(request.allocation.head.allocation.gpus_per_node) and not request.job.gpu_sharing
    return Part(cores=len(request.cores), devices=len(request.devices or ()) if counted else 0)


def _why_teller(request: PlanRequest) -> Because:
    reasons = {
        "panda": "the job was fetched from the server by this run, which tells it",
        "harvester": "the job was pushed: the report goes back and Harvester tells",
        "caller": "no PanDA: whoever called reads the report",
    }
    return Because(decision=f"teller {request.teller}", reason=reasons[request.teller])


def _why_exposed(request: PlanRequest) -> Because:
    """Say what a payload on the bare host could read: our files, for it has our uid."""
    head = request.allocation.head
    return Because(
        decision="no container",
        reason=f"bare execution on {head.host}: the payload has our uid and could read our files",
    )
