"""`pilotwrap lab serve|put|jobs|queue|token`: the embedded PanDA server."""

import argparse
import json
import time
from pathlib import Path

from pilotwrap.lab.api import APIS
from pilotwrap.lab.queuedata import QUEUE_STATUSES

EXAMPLE = "pilotwrap lab serve --db lab.sqlite"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of each of the five."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="serve|put|jobs|queue|token")
    _serve_options(_kind(kinds, "serve", "serve until TERM or INT", "--db lab.sqlite --port 8080"))
    put = _kind(kinds, "put", "put jobs in", "--db lab.sqlite job.json")
    put.add_argument("--panda-queue", default="", help="queue of jobs that name none (the server's)")
    put.add_argument("jobs", nargs="+", type=Path, metavar="JOB.json", help="a pilotwrap.job/1, a PanDA job, or a list")
    _kind(kinds, "jobs", "print the jobs and their histories", "--db lab.sqlite --json")
    queue = _kind(kinds, "queue", "tell or show a queue's status", "--db lab.sqlite LAB_QUEUE --status offline")
    queue.add_argument("name", metavar="NAME", help="the queue; unknown ones become known")
    queue.add_argument("--status", choices=QUEUE_STATUSES, help="what its pilots are told (online)")
    queue.add_argument("--files", type=Path, metavar="DIR", help="the folder that pilots stage from and to")
    token = _kind(kinds, "token", "make a further token", "--db lab.sqlite --identity Ann --out ann.token")
    token.add_argument("--identity", required=True, help="whose it is; a user job is fetched only by its own user")
    token.add_argument("--vo", default="lab", help="its organisation, the first part of the origin (lab)")
    token.add_argument("--role", action="append", default=[], help="production, pilot, …; none: may fetch, not report")
    token.add_argument("--expires-in", type=float, default=86400.0, metavar="S", help="seconds (86400); 0: expired")
    token.add_argument("--out", type=Path, required=True, help="the token file")


def main(options: argparse.Namespace) -> int:
    """Do one of the five and return the exit code."""
    return {"serve": _serve, "put": _put, "jobs": _jobs, "queue": _queue, "token": _token}[options.kind](options)


def _kind(
    kinds: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, summary: str, example: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = kinds.add_parser(
        name, help=summary, description=summary, epilog=f"example: pilotwrap lab {name} {example}"
    )
    parser.add_argument("--db", type=Path, required=True, help="the lab's database, one SQLite file")
    parser.add_argument("--json", action="store_true", help="one JSON value on stdout")
    return parser


def _serve_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1 (a free one)")
    parser.add_argument("--api", choices=APIS, default="current", help="which API")
    parser.add_argument("--sent-timeout", type=float, default=1800.0, metavar="S", help="given up when never started")
    parser.add_argument("--running-timeout", type=float, default=7200.0, metavar="S", help="given up when silent")
    parser.add_argument("--panda-queue", default="", help="the queue's name (LAB_QUEUE)")
    parser.add_argument("--files", type=Path, metavar="DIR", help="serve this folder at /files by GET, HEAD and PUT")
    parser.add_argument("--adder-period", type=float, default=0.1, metavar="S", help="of the final verdict; 0: never")
    parser.add_argument("--lifeline", action="store_true", help="end when standard input ends")


def _serve(options: argparse.Namespace) -> int:
    from pilotwrap.model.errors import BadInputError

    try:
        from pilotwrap.lab.app import Rules
        from pilotwrap.lab.serve import Service, serve
    except ModuleNotFoundError as error:
        raise BadInputError(
            "the lab's server is not installed", why=f"no module {error.name}", remedy="pip install 'pilotwrap[lab]'"
        ) from error
    from pilotwrap.lab.daemon import Periods
    from pilotwrap.lab.timeouts import Limits

    rules = Rules(
        Limits(options.sent_timeout, options.running_timeout),
        Periods(adder_s=options.adder_period),
        options.files,
        options.api,
    )
    service = Service(options.db, options.port, options.panda_queue, rules, options.lifeline)
    serve(service, lambda line: print(line, flush=True))
    return 0


def _put(options: argparse.Namespace) -> int:
    from pilotwrap.lab.put import put_files
    from pilotwrap.lab.store import Store

    print(json.dumps(put_files(Store(options.db), options.jobs, options.panda_queue)))
    return 0


def _jobs(options: argparse.Namespace) -> int:
    from pilotwrap.lab.listing import listed_jobs
    from pilotwrap.lab.store import Store

    jobs = listed_jobs(Store.existing(options.db))
    if options.json:
        print(json.dumps(jobs))
        return 0
    for job in jobs:
        print(f"{job['panda_id']:>8}  {job['state']:<12} {job['pilot_error_code']:>5}  {job['pilot_error_diag']}")
    return 0


def _queue(options: argparse.Namespace) -> int:
    from pilotwrap.lab.queuedata import Queue
    from pilotwrap.lab.queues import known_queue, storage_folder, tell_status, tell_storage
    from pilotwrap.lab.store import Store

    store = Store(options.db)
    with store.transaction():
        known = known_queue(store, options.name) or Queue(options.name)
        queue = Queue(known.name, options.status or known.status)
        tell_status(store, queue)
        if options.files:
            tell_storage(store, options.files)
        folder = storage_folder(store)
    print(json.dumps({"panda_queue": queue.name, "status": queue.status, "files": folder and str(folder)}))
    return 0


def _token(options: argparse.Namespace) -> int:
    from pilotwrap.lab.store import Store
    from pilotwrap.lab.tokens import Grant, make_token, write_token

    grant = Grant(options.identity, options.vo, tuple(options.role), options.expires_in)
    write_token(make_token(Store(options.db), grant, time.time()), options.out)
    origin = ".".join([options.vo, *options.role[:1]])
    print(json.dumps({"credential": {"kind": "token", "path": str(options.out.absolute()), "origin": origin}}))
    return 0
