"""Jobs into the lab: a `pilotwrap.job/1` or a PanDA job, as a PanDA server would hold it."""

import json
import shlex
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from pilotwrap.lab.envelope import Json
from pilotwrap.lab.store import Store
from pilotwrap.model.errors import BadInputError

JobSpec: TypeAlias = dict[str, Json]

PLACEHOLDER_URL = "lab:"
"""Stands for the server's URL in a stored transformation, since a later server may listen on another port."""

TRANSFORMATION = f"{PLACEHOLDER_URL}/trf/run"
DEFAULT_QUEUE = "LAB_QUEUE"
DEFAULT_ENDPOINT = "LAB"

_SHAPE_DEFAULTS: dict[str, Json] = {
    "mode": "copies",
    "nodes": 1,
    "ranks_per_node": 1,
    "cpus_per_rank": None,
    "smt": 1,
    "gpus_per_rank": 0,
    "gpu_vendor": None,
    "gpu_sharing": False,
    "gpu_variable": None,
    "memory_mib_per_rank": None,
    "binding": "closest",
    "walltime_s": None,
    "rank_output": "merged",
    "launcher_options": [],
    "image": None,
    "runtime": None,
    "environment": [],
}
"""What a job's parameters carry of its shape, with the values that need no saying."""

_SPEC_KEYS = {"schema", "command", "inputs", "outputs", *_SHAPE_DEFAULTS}
_FILE_KEYS = {"lfn", "url", "path", "size", "adler32", "sha256", "endpoint"}

_JOB_DEFAULTS: JobSpec = {
    "prodSourceLabel": "managed",
    "swRelease": "",
    "homepackage": "",
    "transformation": TRANSFORMATION,
    "jobDefinitionID": 1,
    "cloud": "WORLD",
    "jobPars": "",
    "attemptNr": 1,
    "prodUserID": "Lab",
    "maxCpuCount": 0,
    "minRamCount": 0,
    "maxDiskCount": 0,
    "cmtConfig": "",
    "processingType": "test",
    "transferType": "NULL",
    "sourceSite": "NULL",
    "currentPriority": 1000,
    "taskID": 1,
    "coreCount": 1,
    "jobsetID": 1,
    "reqID": "NULL",
    "nucleus": "NULL",
    "maxWalltime": 0,
    "ioIntensity": None,
    "ioIntensityUnit": None,
    "nSent": 0,
    "destinationSE": "local",
    "inFiles": "",
    "dispatchDblock": "",
    "dispatchDBlockToken": "",
    "prodDBlocks": "",
    "prodDBlockToken": "",
    "realDatasetsIn": "",
    "GUID": "",
    "checksum": "",
    "fsize": "",
    "scopeIn": "",
    "ddmEndPointIn": "",
}
_INPUT_LISTS = {
    "inFiles": "",
    "fsize": "NULL",
    "checksum": "NULL",
    "GUID": "NULL",
    "scopeIn": "lab",
    "ddmEndPointIn": DEFAULT_ENDPOINT,
    "dispatchDblock": "NULL",
    "dispatchDBlockToken": "NULL",
    "prodDBlocks": "lab:lab.input",
    "prodDBlockToken": "NULL",
    "realDatasetsIn": "lab:lab.input",
}
"""The parallel lists that describe a job's inputs, and what each says of one that tells nothing else."""

_OPTIONAL_KEYS = {
    "StatusCode", "PandaID", "computingSite", "credname", "myproxy", "container_name", "secrets", "pilotSecrets",
    "debug", "loopingCheck", "eventService", "writeToFile", "allowNoOutput", "useVP", "noExecStrCnv", "altStageOut",
    "putLogToOS", "isHPO", "onSiteMerging", "zipMap", "priorityRange",
}  # fmt: skip
_OUTPUT_KEYS = {
    "outFiles", "logFile", "logGUID", "scopeOut", "scopeLog", "jobName", "resource_type", "destinationDblock",
    "destinationDBlockToken", "dispatchDBlockTokenForOut", "realDatasets", "fileDestinationSE", "ddmEndPointOut",
}  # fmt: skip
_JOB_KEYS = {*_JOB_DEFAULTS, *_OPTIONAL_KEYS, *_OUTPUT_KEYS}


def put_files(store: Store, paths: Iterable[Path], panda_queue: str = "") -> list[dict[str, int]]:
    """Put in every job of the files, all or none; return their `panda_id` and `attempt_nr`.

    Raises BadInputError naming the file and the key.
    """
    jobs = [job for path in paths for job in read_jobs(path)]
    return put_jobs(store, jobs, panda_queue)


def read_jobs(path: Path) -> list[JobSpec]:
    """Return the PanDA jobs that a file describes: one, or a list of them."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(f"{path} cannot be read", why=error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{path} is not JSON", why=str(error)) from error
    return [panda_job(each, str(path)) for each in (content if isinstance(content, list) else [content])]


def panda_job(content: Json, source: str) -> JobSpec:
    """Return the PanDA job for a `pilotwrap.job/1` or for a PanDA job with some of its keys left out."""
    if isinstance(content, dict) and "command" in content:
        return _of_spec(content, source)
    if isinstance(content, dict) and "transformation" in content:
        return _of_panda(content, source)
    raise BadInputError(f"{source} is no job", remedy="give it `command` (pilotwrap.job/1) or `transformation` (PanDA)")


def put_jobs(store: Store, jobs: Iterable[JobSpec], panda_queue: str = "") -> list[dict[str, int]]:
    """Put in PanDA jobs as `activated`; one that has a PandaID keeps it."""
    queue = panda_queue or store.setting("panda_queue", DEFAULT_QUEUE)
    with store.transaction():
        return [_insert(store, job, queue) for job in jobs]


def _insert(store: Store, job: JobSpec, queue: str) -> dict[str, int]:
    wanted = job.get("PandaID")
    if wanted is not None and store.row("SELECT 1 FROM jobs WHERE panda_id = ?", _integer(job, "PandaID")):
        raise BadInputError(f"PandaID {wanted} is taken", remedy="leave PandaID out and the lab gives one")
    now = time.time()
    spec = {name: value for name, value in job.items() if name not in {"PandaID", "computingSite"}}
    panda_id = store.write(
        "INSERT INTO jobs (panda_id, attempt_nr, state, site, label, owner, priority, min_ram, max_disk, max_walltime,"
        " resource_type, task_id, spec, modified) VALUES (?, ?, 'activated', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        None if wanted is None else _integer(job, "PandaID"),
        _integer(job, "attemptNr"),
        str(job.get("computingSite") or queue),
        str(job["prodSourceLabel"]),
        str(job["prodUserID"]),
        *(_integer(job, name) for name in ("currentPriority", "minRamCount", "maxDiskCount", "maxWalltime")),
        str(job["resource_type"]),
        _integer(job, "taskID"),
        json.dumps(spec),
        now,
    )
    store.note(panda_id, "activated", now)
    return {"panda_id": panda_id, "attempt_nr": _integer(job, "attemptNr")}


def _of_panda(content: JobSpec, source: str) -> JobSpec:
    _refuse_unknown(content, _JOB_KEYS, source)
    log = content.get("logFile")
    outputs = _outputs([lfn for lfn in _listed(content.get("outFiles")) if lfn != log], [])
    own = {key: value for key, value in content.items() if key != "outFiles" or log}
    job = {**_JOB_DEFAULTS, **outputs, **own}
    for name in ("attemptNr", "currentPriority", "minRamCount", "maxDiskCount", "maxWalltime", "taskID", "coreCount"):
        if not isinstance(job[name], int):
            raise _bad(source, name, "is not an integer")
    if "PandaID" in content and not isinstance(content["PandaID"], int):
        raise _bad(source, "PandaID", "is not an integer")
    job.setdefault("resource_type", "SCORE" if job["coreCount"] == 1 else "MCORE")
    return job


def _of_spec(spec: JobSpec, source: str) -> JobSpec:
    _refuse_unknown(spec, _SPEC_KEYS, source)
    words = _words(spec["command"], source)
    ranks, cpus = _count(spec, "ranks_per_node", source), _count(spec, "cpus_per_rank", source)
    inputs = _entries(spec, "inputs", source)
    outputs = _entries(spec, "outputs", source)
    memory = spec.get("memory_mib_per_rank")
    return {
        **_JOB_DEFAULTS,
        **_inputs(inputs, source),
        **_outputs([str(each["lfn"]) for each in outputs], [_endpoint(each) for each in outputs]),
        "jobPars": shlex.join([*_shape_words(spec), *words]),
        "coreCount": ranks * cpus,
        "resource_type": "SCORE" if ranks * cpus == 1 else "MCORE",
        "maxWalltime": 0 if spec.get("walltime_s") is None else _count(spec, "walltime_s", source),
        "minRamCount": 0 if memory is None else _count(spec, "memory_mib_per_rank", source) * ranks,
    }


def _words(command: Json, source: str) -> list[str]:
    words = command if isinstance(command, list) else []
    found = [word for word in words if isinstance(word, str)]
    if not found or len(found) != len(words):
        raise _bad(source, "command", "is not a list of words")
    return found


def _shape_words(spec: JobSpec) -> list[str]:
    """Return `--pilotwrap SHAPE`, or nothing when the whole shape is the default one."""
    shape = {name: spec[name] for name in _SHAPE_DEFAULTS if name in spec}
    if all(value == _SHAPE_DEFAULTS[name] for name, value in shape.items()):
        return []
    return ["--pilotwrap", json.dumps(shape, separators=(",", ":"))]


def _inputs(entries: list[JobSpec], source: str) -> JobSpec:
    """Return the parallel lists of the inputs; a size or checksum that nobody said is PanDA's literal NULL."""
    for entry in entries:
        if "sha256" in entry and "adler32" not in entry:
            raise _bad(source, "inputs", "has a sha256 only, PanDA knows adler32")
    files = [_input(entry) for entry in entries]
    return {name: ",".join(file[name] for file in files) for name in _INPUT_LISTS}


def _input(entry: JobSpec) -> dict[str, str]:
    return {
        **_INPUT_LISTS,
        "inFiles": str(entry["lfn"]),
        "fsize": str(entry.get("size", "NULL")),
        "checksum": f"ad:{entry['adler32']}" if entry.get("adler32") else "NULL",
        "GUID": str(uuid.uuid4()),
        "ddmEndPointIn": _endpoint(entry),
    }


def _outputs(lfns: list[str], endpoints: list[str]) -> JobSpec:
    """Return the parallel lists of the outputs and the log, which the server adds to every job."""
    name = str(uuid.uuid4())
    log = f"log.{name}.job.log.tgz"
    count = len(lfns) + 1
    return {
        "jobName": name,
        "outFiles": ",".join([*lfns, log]),
        "logFile": log,
        "logGUID": str(uuid.uuid4()),
        "scopeOut": ",".join(["lab"] * len(lfns)),
        "scopeLog": "lab",
        "destinationDblock": ",".join([f"lab.{name}"] * count),
        "realDatasets": ",".join([f"lab.{name}"] * count),
        "destinationDBlockToken": ",".join(["NULL"] * count),
        "dispatchDBlockTokenForOut": ",".join(["NULL"] * count),
        "fileDestinationSE": ",".join(["local"] * count),
        "ddmEndPointOut": ",".join([*(endpoints or [DEFAULT_ENDPOINT] * len(lfns)), DEFAULT_ENDPOINT]),
    }


def _listed(value: Json) -> list[str]:
    return [lfn for lfn in str(value or "").split(",") if lfn]


def _endpoint(entry: JobSpec) -> str:
    return str(entry.get("endpoint", DEFAULT_ENDPOINT))


def _entries(spec: JobSpec, key: str, source: str) -> list[JobSpec]:
    entries = spec.get(key, [])
    if not isinstance(entries, list):
        raise _bad(source, key, "is not a list")
    found = [entry for entry in entries if isinstance(entry, dict)]
    if len(found) != len(entries):
        raise _bad(source, key, "holds something other than objects")
    for entry in found:
        _refuse_unknown(entry, _FILE_KEYS, f"{source}, {key}")
        lfn = entry.get("lfn")
        if not isinstance(lfn, str) or not lfn or "," in lfn:
            raise _bad(source, f"{key}.lfn", "is not a name without commas")
    return found


def _count(spec: JobSpec, key: str, source: str) -> int:
    value = spec.get(key)
    if value is None:
        return 1
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _bad(source, key, f"is {value!r}, not a positive integer")
    return value


def _integer(job: JobSpec, key: str) -> int:
    value = job[key]
    return value if isinstance(value, int) else 0


def _refuse_unknown(content: JobSpec, known: set[str], source: str) -> None:
    for key in content:
        if key not in known:
            raise _bad(source, key, "is not a key that the lab can store")


def _bad(source: str, key: str, why: str) -> BadInputError:
    return BadInputError(f"{source}: {key} {why}", remedy="correct it and put the file in again")
