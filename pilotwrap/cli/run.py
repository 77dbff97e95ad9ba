"""`run`: the main job. Here its words are read; the starter passes them to the controller unread."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any, Literal

    from pilotwrap.model.credential import Credential
    from pilotwrap.model.job import JobSpec
    from pilotwrap.run.options import PilotOptions, RunOptions

EXAMPLE = "pilotwrap run --server URL --panda-queue QUEUE --credential TOKEN_FILE --origin atlas.production"


def direct(words: Sequence[str]) -> int | None:
    """Be the starter for these words; None when only help is asked for."""
    if any(word in {"-h", "--help"} for word in words):
        return None
    from pilotwrap.host.starter import main as starter

    return starter(list(words), [sys.executable, "-m", "pilotwrap", "controller"])


def main(_options: argparse.Namespace) -> int:
    """Do nothing: `direct` has done it all."""
    return 0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Name what `run` takes."""
    import argparse
    from pathlib import Path

    add = parser.add_argument
    add(
        "--spec",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="a pilotwrap.job/1, or a list; several may be",
    )
    add("--server", metavar="URL", help="a PanDA server to fetch jobs from")
    add("--panda-queue", metavar="NAME", help="the queue to fetch from")
    add("--credential", type=Path, metavar="PATH", help="a token file, or an X.509 proxy (a PEM file)")
    add("--origin", metavar="VO.ROLE", help="what the token speaks for, e.g. atlas.production")
    add("--ca", type=Path, metavar="PATH", help="certificates to check the server against, instead of the system's")
    add("--label", default="managed", metavar="LABEL", help="prod_source_label of the jobs to fetch")
    add("--agent", choices=("direct", "pilot3"), default="direct", help="who runs a fetched job")
    _pilot_arguments(parser)
    add("--machine", metavar="NAME", help="take the nodes for those of this machine, or of a FILE.toml of your own")
    add("--accept-fewer", action="store_true", help="run jobs on fewer nodes than they ask for, where some are broken")
    where = "on the head for all nodes, or on each node for itself (auto: so with a --spec of one node, or pilot3)"
    add("--controllers", choices=("auto", "head", "node"), default="auto", help=f"where jobs are fetched: {where}")
    add("--part", type=Path, metavar="DIR", help=argparse.SUPPRESS)
    add("--jobs", type=_count, metavar="N", help="fetch at most N jobs")
    add("--wait-for-work", type=_seconds, default=0.0, metavar="S", help="go on asking for S seconds without work")
    add("--run-dir", type=Path, default=Path("pilotwrap-runs"), metavar="DIR", help="parent of the runs' directories")
    add("--storage", type=Path, metavar="FILE", help='storage map, {"ENDPOINT": "URL", …}')
    add("--payload-user", metavar="NAME", help="as root: run payloads as this user")
    add("--heartbeat", type=_seconds, default=600.0, metavar="S", help="seconds between two heartbeats of a job")
    add("--harvester-id", metavar="ID", help="the Harvester that this worker belongs to")
    add("--worker-id", type=_count, metavar="N", help="this worker's number there")
    add("--enter", metavar="WORDS", help='the way into the image, e.g. "apptainer exec IMAGE"; read by the starter')
    add("--json", action="store_true", help="print the RunReport as JSON on stdout, and nothing else there")


def _pilot_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("with --agent pilot3").add_argument
    where = "image (default), a directory, FILE.tar.gz#sha256=DIGEST, or pypi"
    add("--pilot", default="image", metavar="SOURCE", help=f"where PanDA's pilot comes from: {where}")
    add("--pilot-plugin", default="generic", metavar="NAME", help="the experiment, as the pilot's --pilot-user")
    add("--pilot-silence", type=_seconds, default=900.0, metavar="S", help="without a sign of life for S it is stuck")
    add("--pilot-option", action="append", default=[], metavar="WORD", help="a further word for its command line")
    add("--pilot-by-proxy", action="store_true", help="it fetches its transformation through us as its HTTP proxy")
    add("--queuedata", metavar="PATH|URL", help="the queue's data, instead of the server's")
    add("--storagedata", metavar="PATH|URL", help="the storage's data, instead of the server's")
    add("--baseurls", metavar="URL,…", default="", help="where transformations may come from, besides the server")


def options_of(namespace: argparse.Namespace) -> RunOptions:
    """Return the words as values; raises BadInputError and UsageError."""
    from pilotwrap.run.options import RunOptions

    specs = tuple(spec for path in namespace.spec for spec in read_specs(path))
    fetching = _fetching(specs)
    _refuse_missing(namespace)
    worker = _worker(specs) if namespace.server else fetching
    return RunOptions(
        specs=specs[1:] if worker else specs,
        worker=worker,
        **_source(namespace, fetching),
        ca_path=str(namespace.ca) if namespace.ca else None,
        jobs=namespace.jobs,
        wait_for_work_s=namespace.wait_for_work,
        run_dir=namespace.run_dir,
        storage=namespace.storage,
        payload_user=namespace.payload_user,
        heartbeat_s=namespace.heartbeat,
        as_json=namespace.json,
        harvester_id=namespace.harvester_id,
        worker_id=namespace.worker_id,
        pilot=_pilot(namespace),
        accept_fewer=namespace.accept_fewer,
        controllers=_controllers(namespace, specs),
        part=namespace.part,
    )


def _controllers(namespace: argparse.Namespace, specs: Sequence[JobSpec]) -> Literal["auto", "head", "node"]:
    """Return who fetches: without a shape of our own a job that carries one may need several nodes, but for a pilot."""
    if namespace.controllers == "auto" and not specs and namespace.agent == "direct":
        return "head"
    given: Literal["auto", "head", "node"] = namespace.controllers
    return given


def _source(namespace: argparse.Namespace, fetching: JobSpec | None) -> dict[str, Any]:
    """Return from where jobs are fetched: what the words say, then what the spec says that fetches."""
    found = {
        "server": namespace.server,
        "panda_queue": namespace.panda_queue,
        "prod_source_label": namespace.label,
        "credential": _credential(namespace),
    }
    if fetching is None or fetching.panda is None:
        return found
    said: dict[str, Any] = {"server": fetching.panda.server, "panda_queue": fetching.panda.panda_queue}
    said |= {"credential": fetching.credential} if fetching.credential else {}
    named = {name: value for name, value in found.items() if value is not None}
    return {**found, **said, **named, "prod_source_label": fetching.panda.prod_source_label}


def _pilot(namespace: argparse.Namespace) -> PilotOptions | None:
    from pilotwrap.run.options import PilotOptions

    if namespace.agent != "pilot3":
        return None
    return PilotOptions(
        source=namespace.pilot,
        queuedata=namespace.queuedata,
        storagedata=namespace.storagedata,
        baseurls=tuple(url for url in namespace.baseurls.split(",") if url),
        plugin=namespace.pilot_plugin,
        silence_s=namespace.pilot_silence,
        by_proxy=namespace.pilot_by_proxy,
        words=tuple(namespace.pilot_option),
    )


def _refuse_missing(namespace: argparse.Namespace) -> None:
    """Raise UsageError for words that ask for nothing."""
    from pilotwrap.model.errors import UsageError

    if namespace.agent == "pilot3" and not namespace.server:
        raise UsageError("the agent pilot3 runs jobs of a server", remedy="give --server, or leave --agent out")
    if not namespace.spec and not namespace.server:
        raise UsageError("nothing to run", remedy="give --spec FILE, or --server, --panda-queue and --credential")


def _fetching(specs: Sequence[JobSpec]) -> JobSpec | None:
    """Return the spec that says where to fetch jobs; None: every spec is itself a job."""
    from pilotwrap.model.errors import BadInputError

    fetching = next((spec for spec in specs if spec.panda), None)
    if fetching and len(specs) > 1:
        raise BadInputError("a spec that fetches jobs stands alone", remedy="give one such --spec and no other")
    return fetching


def _worker(specs: Sequence[JobSpec]) -> JobSpec:
    """Return the shape of jobs fetched from the server of the words: the first spec's, or one plain process."""
    from pilotwrap.model.job import JobSpec

    return specs[0] if specs else JobSpec(command=("/bin/sh",))


def read_spec(path: Path) -> JobSpec:
    """Read a job's spec; BadInputError names the file, the key and what was expected."""
    from pilotwrap.model.errors import BadInputError

    specs = read_specs(path)
    if len(specs) != 1:
        raise BadInputError(f"{path} is a list of {len(specs)} jobs", remedy="give a file with one")
    return specs[0]


def read_specs(path: Path) -> tuple[JobSpec, ...]:
    """Read a job's spec, or a list of them; BadInputError names the file, the key and what was expected."""
    import json

    from pilotwrap.model.errors import BadInputError

    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(f"{path} cannot be read", why=error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{path} is not JSON", why=str(error)[:200]) from error
    if isinstance(values, list) and values:
        return tuple(_spec_of(one, f"{path}: {number}") for number, one in enumerate(values))
    return (_spec_of(values, str(path)),)


def _spec_of(values: object, place: str) -> JobSpec:
    import json

    from pydantic import ValidationError

    from pilotwrap.model.errors import BadInputError
    from pilotwrap.model.job import JobSpec

    if not isinstance(values, dict):
        raise BadInputError(f"{place} is not a JSON object", remedy='e.g. {"command": ["echo", "hello"]}')
    try:
        return JobSpec.model_validate_json(json.dumps(values))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        said = f", it is {json.dumps(first['input'], default=str)[:60]}" if first["loc"] else ""
        raise BadInputError(
            f"{place}: {key}", why=f"{first['msg']}{said}", remedy="see `pilotwrap schema job`"
        ) from error


def _credential(namespace: argparse.Namespace) -> Credential | None:
    from pilotwrap.panda.credentials import credential_at

    if namespace.credential is None:
        return None
    return credential_at(str(namespace.credential.absolute()), namespace.origin)


def _count(text: str) -> int:
    import argparse

    if text.isascii() and text.isdigit() and 0 < int(text) < 10**9:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 up")


def _seconds(text: str) -> float:
    import argparse

    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds")
    return seconds
