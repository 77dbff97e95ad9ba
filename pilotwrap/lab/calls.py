"""The current API's calls: for each its verb, who may, its arguments and what does it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from pilotwrap.lab import jobs, queue, workers
from pilotwrap.lab.arguments import Argument, ArgumentRefusedError, Arguments, cast, checked, signature
from pilotwrap.lab.desk import Desk
from pilotwrap.lab.envelope import Envelope, Json, PlainFailure, done, refused


@dataclass(frozen=True)
class Call:
    """One call: `access` says whether anybody may, only who is known, or only the production role."""

    method: Literal["GET", "POST"]
    access: Literal["anybody", "known", "production"]
    arguments: tuple[Argument, ...]
    handler: Callable[[Desk, Arguments], Envelope]


def answered(call: Call, desk: Desk, method: str, given: Mapping[str, Json]) -> Envelope:
    """Answer one call in the real server's order of refusals: identity, role, verb, arguments."""
    if call.access != "anybody" and desk.caller is None:
        return refused("SSL secure connection is required")
    if call.access == "production" and not desk.is_production:
        return refused("production or pilot role required")
    if method != call.method:
        return refused(f"expecting {call.method}, received {method}")
    try:
        arguments = (cast if method == "GET" else checked)(call.arguments, given)
    except ArgumentRefusedError as error:
        return refused(str(error))
    try:
        with desk.store.transaction():
            return call.handler(desk, arguments)
    except (OverflowError, UnicodeEncodeError) as error:  # a number or a text that no database holds
        raise PlainFailure(500, str(error)) from error


def _is_alive(_desk: Desk, _arguments: Arguments) -> Envelope:
    return done()


_WORKER_NODE = signature(
    "site:str host_name:str cpu_model:str panda_queue:str=null n_logical_cpus:int=null n_sockets:int=null"
    " cores_per_socket:int=null threads_per_core:int=null cpu_architecture:str=null cpu_architecture_level:str=null"
    " clock_speed:float=null total_memory:int=null total_local_disk:int=null timeout:int=60"
)
_WORKER_NODE_GPU = signature(
    "site:str host_name:str vendor:str model:str count:int vram:int=null architecture:str=null framework:str=null"
    " framework_version:str=null driver_version:str=null timeout:int=60"
)

CALLS: dict[tuple[str, str], Call] = {
    ("system", "is_alive"): Call("GET", "anybody", (), _is_alive),
    ("pilot", "acquire_jobs"): Call("POST", "known", queue.ACQUIRE_SIGNATURE, queue.acquire_jobs),
    ("pilot", "update_job"): Call("POST", "production", jobs.UPDATE_SIGNATURE, jobs.update_job),
    ("pilot", "update_jobs_bulk"): Call(
        "POST", "production", signature("job_list:list harvester_id:str=null"), jobs.update_jobs_bulk
    ),
    ("pilot", "get_job_status"): Call("GET", "known", signature("job_ids:list timeout:int=60"), jobs.get_job_status),
    ("pilot", "update_worker_status"): Call(
        "POST",
        "production",
        signature("worker_id:any harvester_id:any status:any timeout:any=60 node_id:any=null"),
        workers.update_worker_status,
    ),
    ("pilot", "update_worker_node"): Call("POST", "production", _WORKER_NODE, workers.update_worker_node),
    ("pilot", "update_worker_node_gpu"): Call("POST", "production", _WORKER_NODE_GPU, workers.update_worker_node_gpu),
    ("job", "get_status"): Call("GET", "known", signature("job_ids:list timeout:int=60"), jobs.get_status),
    ("job", "kill"): Call("POST", "production", signature("job_ids:list code:int=null timeout:int=60"), jobs.kill),
    ("job", "set_command"): Call("POST", "production", signature("job_id:int command:str"), jobs.set_command),
    ("job", "set_debug_mode"): Call("POST", "production", signature("job_id:int mode:bool"), jobs.set_debug_mode),
    ("harvester", "heartbeat"): Call("POST", "known", signature("harvester_id:str data:dict=null"), workers.heartbeat),
    ("harvester", "get_current_worker_id"): Call(
        "GET", "known", signature("harvester_id:str"), workers.get_current_worker_id
    ),
    ("harvester", "update_workers"): Call(
        "POST", "known", signature("harvester_id:str workers:list"), workers.update_workers
    ),
    ("harvester", "report_worker_statistics"): Call(
        "POST", "known", signature("harvester_id:str panda_queue:str statistics:str"), workers.report_worker_statistics
    ),
    ("harvester", "get_worker_statistics"): Call("GET", "known", (), workers.get_worker_statistics),
    ("harvester", "update_service_metrics"): Call(
        "POST", "known", signature("harvester_id:str metrics:list"), workers.update_service_metrics
    ),
    ("harvester", "add_dialogs"): Call("POST", "known", signature("harvester_id:str dialogs:list"), workers.taken),
    ("harvester", "acquire_commands"): Call(
        "POST", "known", signature("harvester_id:str n_commands:int timeout:int=30"), workers.acquire_commands
    ),
    ("harvester", "acknowledge_commands"): Call(
        "POST", "known", signature("command_ids:list timeout:int=30"), workers.taken
    ),
}
"""What the lab serves of `/api/v1/MODULE/METHOD`; anything else is forbidden, as on the real server."""
