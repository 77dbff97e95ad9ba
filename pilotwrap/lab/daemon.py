"""What a PanDA server does on its own: the Adder's pass, and giving up silent jobs."""

import json
import sqlite3
import time
from dataclasses import dataclass

from pilotwrap.lab.adder import Reported, verdict
from pilotwrap.lab.desk import Desk
from pilotwrap.lab.envelope import Json
from pilotwrap.lab.jobs import end
from pilotwrap.lab.store import Store
from pilotwrap.lab.timeouts import Limits, loss


@dataclass(frozen=True)
class Periods:
    """How often each is done, in seconds; an Adder's period of 0 leaves it to be called by hand."""

    adder_s: float = 0.1
    watcher_s: float = 0.5


def settle(store: Store, now: float | None = None) -> int:
    """Make one Adder's pass: give every reported job its final state; return how many there were."""
    if store.row("SELECT 1 FROM jobs WHERE reported != '' AND archived = 0") is None:
        return 0
    desk = Desk(store, None, time.time() if now is None else now)
    with store.transaction():
        rows = store.rows("SELECT * FROM jobs WHERE reported != '' AND archived = 0")
        for row in rows:
            _settle_one(desk, row)
    return len(rows)


def give_up(store: Store, limits: Limits, now: float | None = None) -> int:
    """Fail every job that has been silent for too long; return how many there were."""
    desk = Desk(store, None, time.time() if now is None else now)
    shortest = min(limits.sent_s, limits.running_s)
    query = (
        "SELECT panda_id, state, modified, fields FROM jobs WHERE archived = 0 AND reported = '' AND modified < ?"
        " AND state IN ('sent', 'starting', 'running', 'holding', 'transferring')"
    )
    if not store.rows(query, desk.now - shortest):
        return 0
    with store.transaction():
        return sum(_give_up_one(desk, row, limits) for row in store.rows(query, desk.now - shortest))


def _give_up_one(desk: Desk, row: sqlite3.Row, limits: Limits) -> bool:
    fields: dict[str, Json] = json.loads(row["fields"])
    had_diag = bool(fields.get("pilot_error_diag") or fields.get("exe_error_diag"))
    lost = loss(row["state"], desk.now - row["modified"], limits, had_diag=had_diag)
    if lost is None:
        return False
    fields |= {"job_dispatcher_error_code": lost.code, "job_dispatcher_error_diag": lost.diag}
    desk.store.write("UPDATE jobs SET fields = ? WHERE panda_id = ?", json.dumps(fields), row["panda_id"])
    end(desk, int(row["panda_id"]), "failed")
    return True


def _settle_one(desk: Desk, row: sqlite3.Row) -> None:
    spec: dict[str, Json] = json.loads(row["spec"])
    fields: dict[str, Json] = json.loads(row["fields"])
    log = str(spec.get("logFile") or "")
    found = verdict(
        Reported(
            state=row["reported"],
            report=row["report"],
            log=log,
            outputs=tuple(lfn for lfn in _listed(spec, "outFiles") if lfn != log),
            inputs=_listed(spec, "inFiles"),
            optional=_listed(spec, "allowNoOutput"),
            sub_status=str(fields.get("job_sub_status") or ""),
            command=row["command"],
        )
    )
    fields |= {"ddm_error_code": found.ddm_error_code, "ddm_error_diag": found.ddm_error_diag}
    desk.store.write(
        "UPDATE jobs SET fields = ?, files = ? WHERE panda_id = ?",
        json.dumps(fields),
        json.dumps(dict(found.files)),
        row["panda_id"],
    )
    end(desk, int(row["panda_id"]), found.state)


def _listed(spec: dict[str, Json], key: str) -> tuple[str, ...]:
    value = spec.get(key)
    items = value if isinstance(value, list) else str(value or "").split(",")
    return tuple(str(item) for item in items if item)
