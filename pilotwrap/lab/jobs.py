"""The calls about jobs that were given out: update, bulk update, state, kill."""

import json
import sqlite3

from pilotwrap.lab.arguments import ArgumentRefusedError, Arguments, checked, signature
from pilotwrap.lab.desk import Desk
from pilotwrap.lab.envelope import Envelope, Json, PlainFailure, done, refused
from pilotwrap.lab.rules import KILL, PILOT_STATES, PilotState, Stored, Update, killed, ruling

UPDATE_SIGNATURE = signature(
    'job_id:int job_status:str job_output_report:str="" node:str=null cpu_consumption_time:int=null'
    " cpu_consumption_unit:str=null cpu_conversion_factor:number=null scheduler_id:str=null pilot_id:str=null"
    ' site_name:str=null pilot_log:str="" meta_data:str="" trans_exit_code:int=null pilot_error_code:int=null'
    " pilot_error_diag:str=null exe_error_code:int=null exe_error_diag:str=null pilot_timing:str=null"
    " start_time:str=null end_time:str=null n_events:int=null n_input_files:int=null batch_id:str=null"
    ' attempt_nr:int=null job_metrics:str=null stdout:str="" job_sub_status:str=null core_count:int=null'
    " mean_core_count:int=null max_rss:number=null max_vmem:number=null max_swap:number=null max_pss:number=null"
    " avg_rss:number=null avg_vmem:number=null avg_swap:number=null avg_pss:number=null tot_rchar:number=null"
    " tot_wchar:number=null tot_rbytes:number=null tot_wbytes:number=null rate_rchar:number=null"
    " rate_wchar:number=null rate_rbytes:number=null rate_wbytes:number=null corrupted_files:str=null"
    " cpu_architecture_level:str=null grid:str=null source_site:str=null destination_site:str=null timeout:int=60"
)

_CUT = {
    "node": 128,
    "pilot_error_diag": 500,
    "exe_error_diag": 500,
    "job_metrics": 500,
    "pilot_id": 200,
    "batch_id": 80,
    "job_sub_status": 80,
    "cpu_architecture_level": 20,
    "grid": 50,
    "source_site": 36,
    "destination_site": 36,
}
"""Characters kept of a text that the real server cuts."""

_COLUMNS = {"cpu_consumption_unit": 128, "pilot_timing": 100, "scheduler_id": 128}
"""Widths of columns whose text is not cut: a longer one loses the whole update."""

_EXIT_CODES = ("trans_exit_code", "pilot_error_code", "exe_error_code")
_INT32_LIMIT = 2**31

_NOT_KEPT = {"job_id", "job_status", "attempt_nr", "timeout", "job_output_report", "stdout", "pilot_log", "meta_data"}
_DATABASE_ERROR = Envelope(success=True, message="Database error", data={"StatusCode": 30})
_FORCE = 9


def update_job(desk: Desk, arguments: Arguments) -> Envelope:
    """Store what a pilot says of its job and answer with a command for it."""
    state = _pilot_state(arguments.text("job_status"))
    if state is None:
        shown = arguments.value("job_status")
        return Envelope(success=False, message=f"Invalid job status: {shown}", data={"StatusCode": 50})
    if isinstance(arguments.value("job_id"), bool):
        return _DATABASE_ERROR
    panda_id = arguments.integer("job_id") or 0
    row = _row(desk, panda_id)
    fields = _fields(arguments)
    rule = ruling(_stored(row), Update(state, arguments.integer("attempt_nr"), str(fields.get("batch_id", ""))))
    if rule.database_error or (rule.state is not None and not _fits(arguments)):
        return _DATABASE_ERROR
    if rule.state is not None and row is not None:
        _store(desk, row, rule.state, fields)
    if rule.takes_report:
        _take_report(desk, panda_id, state, arguments.text("job_output_report"))
    return done(_commanded(row, rule.command))


def _pilot_state(text: str) -> PilotState | None:
    return next((state for state in PILOT_STATES if state == text), None)


def _commanded(row: sqlite3.Row | None, command: str) -> dict[str, Json]:
    """Return the answer's data; only a live job in debug mode is also given its secrets."""
    in_debug = row is not None and row["debug"] and not row["archived"]
    secrets: dict[str, Json] = {"pilotSecrets": "{}"} if in_debug else {}
    return {"StatusCode": 0, **secrets, "command": command}


def update_jobs_bulk(desk: Desk, arguments: Arguments) -> Envelope:
    """Update many jobs; what the type check dies of ends the call, but the entries before it are stored."""
    answers: list[Json] = []
    for entry in arguments.items("job_list"):
        if not isinstance(entry, dict):
            return Envelope(success=False, message="failed with TypeError", data=[])
        for name in ("job_id", "job_status"):
            if name not in entry:
                return Envelope(success=False, message=f"failed with KeyError '{name}'", data=[])
        if "meta_data" in entry:
            entry["meta_data"] = str(entry["meta_data"])
        try:
            answers.append(update_job(desk, checked(UPDATE_SIGNATURE, entry)).content())
        except ArgumentRefusedError as error:
            answers.append(refused(str(error)).content())
        except PlainFailure as failure:
            return Envelope(success=False, message=f"failed with AttributeError {failure.text}", data=[])
    return done(answers)


def get_job_status(desk: Desk, arguments: Arguments) -> Envelope:
    """Answer the state and attempt of each job asked for."""
    answers: list[Json] = []
    for panda_id in arguments.items("job_ids"):
        row = _row(desk, panda_id)
        found: dict[str, Json] = {"status": row["state"], "attempt_number": row["attempt_nr"]} if row else {}
        answers.append({"job_id": panda_id, **(found or {"status": "not found", "attempt_number": 0})})
    return done(answers)


def get_status(desk: Desk, arguments: Arguments) -> Envelope:
    """Answer the monitoring's question: state and waiting command of each job."""
    answers: list[Json] = []
    for panda_id in arguments.items("job_ids"):
        row = _row(desk, panda_id)
        answers.append({"command": row["command"] or None, "status": row["state"]} if row else None)
    return done(answers)


def kill(desk: Desk, arguments: Arguments) -> Envelope:
    """Kill jobs: at once when no pilot can run them or by force, otherwise by the next heartbeat's answer."""
    answers: list[Json] = []
    for panda_id in arguments.items("job_ids"):
        row = _row(desk, panda_id)
        outcome = killed(_stored(row), force=arguments.integer("code") == _FORCE)
        if outcome == "cancelled" and row is not None:
            end(desk, int(row["panda_id"]), "cancelled")
        elif outcome == "commanded" and row is not None:
            desk.store.write("UPDATE jobs SET command = ? WHERE panda_id = ?", KILL, row["panda_id"])
        answers.append(outcome != "refused")
    return done(answers)


def set_command(desk: Desk, arguments: Arguments) -> Envelope:
    """Leave a command for a job's pilot."""
    desk.store.write(
        "UPDATE jobs SET command = ? WHERE panda_id = ?", arguments.text("command"), arguments.integer("job_id")
    )
    return done(message="command received")


def set_debug_mode(desk: Desk, arguments: Arguments) -> Envelope:
    """Switch a job's debug mode; the real server says success false although it did it."""
    desk.store.write(
        "UPDATE jobs SET debug = ? WHERE panda_id = ?", int(bool(arguments.value("mode"))), arguments.integer("job_id")
    )
    return refused("Succeeded")


def end(desk: Desk, panda_id: int, state: str) -> None:
    """Archive a job in its final state: from now on every update of it is answered with a kill."""
    desk.store.write(
        "UPDATE jobs SET state = ?, archived = 1, modified = ? WHERE panda_id = ?", state, desk.now, panda_id
    )
    desk.store.note(panda_id, state, desk.now)


def _row(desk: Desk, panda_id: Json) -> sqlite3.Row | None:
    if not isinstance(panda_id, int) or abs(panda_id) >= 2**63:
        return None
    return desk.store.row(
        "SELECT panda_id, attempt_nr, state, archived, reported, command, debug, fields FROM jobs WHERE panda_id = ?",
        panda_id,
    )


def _stored(row: sqlite3.Row | None) -> Stored | None:
    if row is None:
        return None
    return Stored(
        state=row["state"],
        attempt_nr=row["attempt_nr"],
        batch_id=str(json.loads(row["fields"]).get("batch_id", "")),
        command=row["command"],
        archived=bool(row["archived"]),
        reported=bool(row["reported"]),
        debug=bool(row["debug"]),
    )


def _fields(arguments: Arguments) -> dict[str, Json]:
    fields = {name: value for name, value in arguments.fields().items() if name not in _NOT_KEPT}
    for name, length in _CUT.items():
        if name in fields:
            fields[name] = str(fields[name])[:length]
    return {name: value for name, value in fields.items() if value == value}  # noqa: PLR0124 - drops NaN


def _fits(arguments: Arguments) -> bool:
    """Tell whether the database would take the row: widths, 32-bit exit codes, no NUL, no half of a character."""
    given = arguments.fields()
    texts = [value for value in given.values() if isinstance(value, str)]
    if any("\0" in text or text.encode(errors="replace").decode() != text for text in texts):
        return False
    if any(len(str(given.get(name, ""))) > width for name, width in _COLUMNS.items()):
        return False
    codes = [arguments.integer(name) or 0 for name in _EXIT_CODES]
    return all(-_INT32_LIMIT <= code < _INT32_LIMIT for code in codes)


def _store(desk: Desk, row: sqlite3.Row, state: str, fields: dict[str, Json]) -> None:
    merged = {**json.loads(row["fields"]), **fields}
    desk.store.write(
        "UPDATE jobs SET state = ?, modified = ?, fields = ? WHERE panda_id = ?",
        state,
        desk.now,
        json.dumps(merged),
        row["panda_id"],
    )
    if state != row["state"]:
        desk.store.note(int(row["panda_id"]), state, desk.now)


def _take_report(desk: Desk, panda_id: int, state: str, report: str) -> None:
    desk.store.write(
        "UPDATE jobs SET reported = ?, report = ?, reports = reports + 1 WHERE panda_id = ?", state, report, panda_id
    )
