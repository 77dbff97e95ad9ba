"""The jobs of a lab database, as one looks at them from outside."""

import json
import sqlite3
from typing import TypeAlias

from pilotwrap.lab.envelope import Json
from pilotwrap.lab.store import Store

Listed: TypeAlias = dict[str, Json]

_FIELDS: dict[str, Json] = {
    "pilot_error_code": 0,
    "pilot_error_diag": "",
    "trans_exit_code": None,
    "exe_error_code": 0,
    "exe_error_diag": "",
    "ddm_error_code": 0,
    "ddm_error_diag": "",
    "job_dispatcher_error_code": 0,
    "job_dispatcher_error_diag": "",
    "task_buffer_error_code": 0,
    "job_metrics": "",
    "job_sub_status": "",
    "batch_id": "",
    "node": "",
    "max_rss": None,
    "core_count": None,
}
"""What is shown of the fields that updates brought, and what stands for one that none did."""


def listed_jobs(store: Store) -> list[Listed]:
    """Return every job with its state, its history and what its pilot said."""
    histories: dict[int, list[Json]] = {}
    for row in store.rows("SELECT * FROM history ORDER BY rowid"):
        histories.setdefault(int(row["panda_id"]), []).append({"state": row["state"], "at": row["at"]})
    return [
        _listed(row, histories.get(int(row["panda_id"]), []))
        for row in store.rows("SELECT * FROM jobs ORDER BY panda_id")
    ]


def _listed(row: sqlite3.Row, history: list[Json]) -> Listed:
    fields: dict[str, Json] = json.loads(row["fields"])
    spec: dict[str, Json] = json.loads(row["spec"])
    return {
        "panda_id": row["panda_id"],
        "attempt_nr": row["attempt_nr"],
        "state": row["state"],
        "history": history,
        "reports": row["reports"],
        **{name: fields.get(name, default) for name, default in _FIELDS.items()},
        "files": json.loads(row["files"]),
        "job_name": spec.get("jobName"),
        "log_guid": spec.get("logGUID"),
    }
