"""`pilot/acquire_jobs`: which waiting jobs fit, and giving them out, each to one caller only."""

import json

from pilotwrap.lab.arguments import Arguments, signature
from pilotwrap.lab.desk import Desk
from pilotwrap.lab.envelope import Envelope, Json, done, refused
from pilotwrap.lab.put import PLACEHOLDER_URL
from pilotwrap.lab.queues import is_in_test
from pilotwrap.lab.store import SqlValue

ACQUIRE_SIGNATURE = signature(
    "site_name:str timeout:int=60 memory:int=null disk_space:int=null prod_source_label:str=null node:str=null"
    " computing_element:str=null prod_user_id:str=null get_proxy_key:str=null task_id:int=null n_jobs:int=1"
    " background:bool=null resource_type:str=null harvester_id:str=null worker_id:int=null scheduler_id:str=null"
    " job_type:str=null via_topic:bool=null remaining_time:any=null"
)

NO_JOBS = "No jobs in PanDA"
ROLE_NEEDED = "no production/pilot role in VOMS FQANs or non pilot owner"

_LABELS: dict[str, tuple[str, ...]] = {
    "": ("managed", "test", "prod_test", "install"),
    "managed": ("managed", "test", "prod_test", "install"),
    "user": ("user", "panda", "install"),
    "unified": ("managed", "test", "prod_test", "install", "user", "panda"),
}
"""Which labels a job may have for the label asked for; any other must be equal."""

_SHORTEST_TIMEOUT_S = 10
"""The real server searches for `timeout` - 10 seconds, so with 10 or less it never finds a job."""


def acquire_jobs(desk: Desk, arguments: Arguments) -> Envelope:
    """Give out up to `n_jobs` jobs that fit the caller's queue, memory, disk and remaining time.

    A queue in status `test` gives test jobs to who asks for any ordinary label, as the real server does.
    """
    label = arguments.text("prod_source_label")
    if not desk.is_production and label != "user":
        return refused(ROLE_NEEDED)
    n_jobs = arguments.integer("n_jobs") or 0
    if (arguments.integer("timeout") or 0) <= _SHORTEST_TIMEOUT_S or n_jobs <= 0:
        return refused(NO_JOBS)
    condition, values = _condition(desk, arguments, _served(desk, arguments, label))
    rows = desk.store.rows(
        f"SELECT panda_id, attempt_nr, spec FROM jobs WHERE {condition} "  # noqa: S608 - built of constants only
        "ORDER BY priority DESC, panda_id LIMIT ?",
        *values,
        n_jobs,
    )
    if not rows:
        return refused(NO_JOBS)
    url = desk.store.setting("url", PLACEHOLDER_URL)
    jobs: list[Json] = []
    for row in rows:
        _give(desk, arguments, int(row["panda_id"]))
        spec = json.loads(row["spec"])
        jobs.append(_answered(spec, int(row["panda_id"]), int(row["attempt_nr"]), url))
    _worker_runs(desk, arguments)
    return done({"StatusCode": 0, "jobs": jobs})


def _served(desk: Desk, arguments: Arguments, label: str) -> str:
    """Return the label that the queue gives to who asks for this one."""
    is_ordinary = label in _LABELS and label != ""
    return "test" if is_ordinary and is_in_test(desk.store, arguments.text("site_name")) else label


def _condition(desk: Desk, arguments: Arguments, label: str) -> tuple[str, list[SqlValue]]:
    labels = _LABELS.get(label, (label,))
    terms = ["state = 'activated'", "site = ?", f"label IN ({','.join('?' * len(labels))})"]
    values: list[SqlValue] = [arguments.text("site_name"), *labels]
    upper_limits = {"min_ram": "memory", "max_disk": "disk_space", "max_walltime": "remaining_time"}
    for column, name in upper_limits.items():
        limit = arguments.integer(name) or 0
        if limit > 0:
            terms.append(f"{column} <= ?")
            values.append(limit)
    if arguments.text("resource_type"):
        terms.append("resource_type = ?")
        values.append(arguments.text("resource_type"))
    if arguments.integer("task_id"):
        terms.append("task_id = ?")
        values.append(arguments.integer("task_id"))
    if not desk.is_production:
        terms.append("owner = ?")
        values.append(desk.identity)
    return " AND ".join(terms), values


def _give(desk: Desk, arguments: Arguments, panda_id: int) -> None:
    worker = ""
    if arguments.text("harvester_id") and arguments.integer("worker_id"):
        worker = f"{arguments.text('harvester_id')}:{arguments.integer('worker_id')}"
    fields = json.dumps({"node": arguments.text("node")[:128]})
    desk.store.write(
        "UPDATE jobs SET state = 'sent', modified = ?, worker = ?, fields = ? WHERE panda_id = ?",
        desk.now,
        worker,
        fields,
        panda_id,
    )
    desk.store.note(panda_id, "sent", desk.now)


def _answered(spec: dict[str, Json], panda_id: int, attempt_nr: int, url: str) -> dict[str, Json]:
    transformation = str(spec.get("transformation", ""))
    if transformation.startswith(PLACEHOLDER_URL + "/"):
        spec["transformation"] = url + transformation.removeprefix(PLACEHOLDER_URL)
    return {**spec, "StatusCode": 0, "PandaID": panda_id, "attemptNr": attempt_nr}


def _worker_runs(desk: Desk, arguments: Arguments) -> None:
    harvester_id, worker_id = arguments.text("harvester_id"), arguments.integer("worker_id")
    known = desk.store.row("SELECT 1 FROM harvesters WHERE harvester_id = ?", harvester_id)
    if known and worker_id:
        desk.store.write("INSERT OR REPLACE INTO workers VALUES (?, ?, 'running')", harvester_id, worker_id)
