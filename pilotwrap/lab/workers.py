"""The calls about panda workers, their nodes, and the Harvester that sent them."""

import json

from pilotwrap.lab.arguments import Arguments
from pilotwrap.lab.desk import Desk
from pilotwrap.lab.envelope import Envelope, Json, done, refused

DATABASE_ERROR = "database error in the PanDA server"

PILOT_STATUSES = ("started", "finished")
"""What a pilot may say of its worker."""

_DEAD_STATES = frozenset({"failed", "finished", "cancelled", "missed"})
_WORKER_DIED = 300
"""The task buffer's error code for a job whose worker ended without it."""

_NARROW = 20
"""Width of the columns for an architecture level and for versions; a host name has 128."""
_HOST_WIDTH = 128


def update_worker_status(_desk: Desk, arguments: Arguments) -> Envelope:
    """Take a pilot's word that its worker started or finished; an unknown worker is taken too."""
    if arguments.value("status") not in PILOT_STATUSES:
        return refused(f"Invalid worker state. The worker state has to be in {PILOT_STATUSES}")
    return done()


def update_worker_node(_desk: Desk, arguments: Arguments) -> Envelope:
    """Take a description of a node; what does not fit is success too, in other words."""
    host = arguments.text("host_name").rpartition("@")[2]
    if len(host) > _HOST_WIDTH or len(arguments.text("cpu_architecture_level")) > _NARROW:
        return done(message="Another pilot was updating the worker node at the same time.")
    return done(message="Inserted new worker node.")


def update_worker_node_gpu(desk: Desk, arguments: Arguments) -> Envelope:
    """Take a description of a node's GPUs, one row a model."""
    if max(len(arguments.text(name)) for name in ("framework_version", "driver_version")) > _NARROW:
        return refused(
            "Worker node GPU update failed with <class 'psycopg2.errors.StringDataRightTruncation'> "
            f"value too long for type character varying({_NARROW})\n"
        )
    key = (
        arguments.text("site"),
        arguments.text("host_name").rpartition("@")[2],
        arguments.text("vendor"),
        arguments.text("model"),
    )
    known = desk.store.row("SELECT 1 FROM gpus WHERE site = ? AND host = ? AND vendor = ? AND model = ?", *key)
    desk.store.write("INSERT OR REPLACE INTO gpus VALUES (?, ?, ?, ?, ?)", *key, arguments.integer("count") or 0)
    return done(message="Updated existing worker node GPU." if known else "Inserted new worker node GPU.")


def heartbeat(desk: Desk, arguments: Arguments) -> Envelope:
    """Take a Harvester's sign of life; the lab enrols the one that describes itself."""
    harvester_id = arguments.text("harvester_id")
    if arguments.value("data") is not None:
        desk.store.write("INSERT OR IGNORE INTO harvesters VALUES (?)", harvester_id)
        return done()
    known = desk.store.row("SELECT 1 FROM harvesters WHERE harvester_id = ?", harvester_id)
    return done() if known else refused(DATABASE_ERROR)


def get_current_worker_id(desk: Desk, arguments: Arguments) -> Envelope:
    """Answer the highest worker id of a Harvester."""
    row = desk.store.row(
        "SELECT max(worker_id) AS last FROM workers WHERE harvester_id = ?", arguments.text("harvester_id")
    )
    return done(row["last"]) if row and row["last"] is not None else refused(DATABASE_ERROR)


def update_workers(desk: Desk, arguments: Arguments) -> Envelope:
    """Take the states of workers; a dead one whose `syncLevel` is 1 takes its jobs with it."""
    answers: list[Json] = []
    for worker in arguments.items("workers"):
        worker_id = worker.get("workerID") if isinstance(worker, dict) else None
        if not isinstance(worker, dict) or not isinstance(worker_id, int):
            return refused(DATABASE_ERROR)
        harvester_id, status = arguments.text("harvester_id"), str(worker.get("status"))
        desk.store.write("INSERT OR REPLACE INTO workers VALUES (?, ?, ?)", harvester_id, worker_id, status)
        if worker.get("syncLevel") == 1 and status in _DEAD_STATES:
            _fail_jobs(desk, f"{harvester_id}:{worker_id}", worker)
        answers.append(True)
    return done(answers)


def report_worker_statistics(desk: Desk, arguments: Arguments) -> Envelope:
    """Keep how many workers a Harvester has for a queue."""
    try:
        json.loads(arguments.text("statistics"))
    except ValueError as error:
        return refused(str(error))
    key = (arguments.text("harvester_id"), arguments.text("panda_queue"))
    desk.store.write("INSERT OR REPLACE INTO worker_statistics VALUES (?, ?, ?)", *key, arguments.text("statistics"))
    return done(message="OK")


def get_worker_statistics(desk: Desk, _arguments: Arguments) -> Envelope:
    """Answer all the statistics, by queue and Harvester."""
    answer: dict[str, Json] = {}
    for row in desk.store.rows("SELECT * FROM worker_statistics ORDER BY site, harvester_id"):
        site = answer.setdefault(str(row["site"]), {})
        if isinstance(site, dict):
            site[str(row["harvester_id"])] = json.loads(row["statistics"])
    return done(answer)


def taken(_desk: Desk, _arguments: Arguments) -> Envelope:
    """Answer a call whose content the lab has no use for."""
    return done()


def update_service_metrics(_desk: Desk, arguments: Arguments) -> Envelope:
    """Answer one true for each metric."""
    return done([True for _ in arguments.items("metrics")])


def acquire_commands(_desk: Desk, _arguments: Arguments) -> Envelope:
    """Answer that nobody has a command for this Harvester: the lab makes none."""
    return done([])


def _fail_jobs(desk: Desk, worker: str, described: dict[str, Json]) -> None:
    """Mark the worker's jobs as failed; like the real server's, the Adder then ends them."""
    listed = described.get("pandaid_list")
    panda_ids = {each for each in listed if isinstance(each, int)} if isinstance(listed, list) else set()
    panda_ids |= {int(row["panda_id"]) for row in desk.store.rows("SELECT panda_id FROM jobs WHERE worker = ?", worker)}
    for panda_id in sorted(panda_ids):
        row = desk.store.row(
            "SELECT fields FROM jobs WHERE panda_id = ? AND state IN ('starting', 'running') AND reported = ''",
            panda_id,
        )
        if row is None:
            continue
        fields: dict[str, Json] = json.loads(row["fields"])
        fields |= {
            "task_buffer_error_code": _WORKER_DIED,
            "task_buffer_error_diag": f"The worker was {described.get('status')} while the job was running",
            "sup_error_code": described.get("errorCode"),
            "sup_error_diag": described.get("diagMessage"),
        }
        desk.store.write(
            "UPDATE jobs SET reported = 'failed', fields = ? WHERE panda_id = ?", json.dumps(fields), panda_id
        )
