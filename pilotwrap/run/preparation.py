"""A job's way to its first process: its directory, its plan, its program, its inputs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilotwrap.model.errors import BadInputError, InternalError, SiteEnvironmentError, StageInError
from pilotwrap.model.job import JobFile, JobSpec, Shape
from pilotwrap.model.plan import Plan
from pilotwrap.plan.plan import plan
from pilotwrap.plan.request import PlanRequest
from pilotwrap.run.job import OWN_NAMES, Job, path_url
from pilotwrap.run.orders import RANKS, Payload, shim_file
from pilotwrap.run.rundir import write_file
from pilotwrap.run.shellline import argv_of
from pilotwrap.run.shim import shim_argv
from pilotwrap.run.surroundings import Surroundings
from pilotwrap.run.transfer import STAGE_S, Terms, Transfer

if TYPE_CHECKING:
    from pilotwrap.panda.job import InputFile, PandaJob


def prepare(job: Job, around: Surroundings) -> Plan:
    """Make all that a job needs before its payload starts, and return its plan; raises PilotwrapError."""
    terms = Terms(deadline=time.monotonic() + STAGE_S, stopped=lambda: job.state.phase != "staging-in")
    _refuse_own_names(job)
    make_directory(job)
    if job.fetched is not None:
        command = _panda_command(job, around, terms)
    else:
        command = job.spec.command or ()
        _bring([_of_spec(file) for file in job.spec.inputs], job.directory, terms)
    made = plan(request_of(job, around, command))
    if made.rank_output == "per-rank":
        (job.directory / RANKS).mkdir(mode=0o700)
    if job.env:
        made = made.model_copy(
            update={"launch": made.launch.model_copy(update={"env": {**made.launch.env, **job.env}})}
        )
    plans = around.run.path / "plans"
    if job.fetched is None or made.ranks > 1:  # that of a plain process says nothing that its spec does not
        write_file(plans / f"{job.name}.json", made.to_json())
    if made.launch.argv:
        results = plans / f"{job.name}.ranks"
        results.mkdir(mode=0o700)
        shim = shim_file(made, payload_of(job, around), str(results))
        write_file(plans / f"{job.name}.shim.json", json.dumps(shim))
        for path, text in made.launch.files.items():
            write_file(Path(path), text)
            _give(Path(path), around.user)
        # a launcher and its shims run as the payload's user
        hand_over(results, around.user)
        _give(plans / f"{job.name}.shim.json", around.user)
    hand_over(job.directory, around.user)
    return made


def payload_of(job: Job, around: Surroundings) -> Payload:
    """Return where a job's payload runs and where its words go."""
    stands = job.parent or job
    own = stands.fetched is not None or bool(stands.spec.inputs or stands.spec.outputs)
    cwd = str(stands.directory) if own else around.cwd
    return Payload(job.name, cwd, str(job.directory), around.user)


def worker_shape(worker: JobSpec, fetched: PandaJob) -> JobSpec:
    """Return the job in the shape it carries, or else in the worker's, with no more cores than it asked for."""
    shape = fetched.shape or worker.shape
    if fetched.shape is None and shape.ranks == 1:
        cores = min(shape.cpus_per_rank or fetched.core_count, fetched.core_count)
        shape = shape.model_copy(update={"cpus_per_rank": cores})
    if shape.walltime_s is None and fetched.max_walltime_s:
        shape = shape.model_copy(update={"walltime_s": float(fetched.max_walltime_s)})
    return JobSpec(**{name: getattr(shape, name) for name in Shape.model_fields}, command=("/bin/sh",))


def _refuse_own_names(job: Job) -> None:
    """Refuse files that would be taken for ours, or overwrite them."""
    files = job.fetched if job.fetched is not None else job.spec
    for file in (*getattr(files, "inputs", ()), *getattr(files, "outputs", ())):
        if file.lfn in OWN_NAMES or (file.lfn == RANKS and job.spec.rank_output == "per-rank"):
            raise BadInputError(
                f"the job has a file named {file.lfn}",
                why="pilotwrap writes one of that name beside it",
                remedy="submit it with another name",
            )


def make_directory(job: Job) -> None:
    """Make the job's own directory; raises SiteEnvironmentError."""
    try:
        job.directory.mkdir(mode=0o700)
    except OSError as error:
        raise SiteEnvironmentError(
            f"the job's directory {job.directory} cannot be made",
            why=error.strerror or str(error),
            remedy="free some space or inodes there, or choose another --run-dir",
        ) from error


def _panda_command(job: Job, around: Surroundings, terms: Terms) -> tuple[str, ...]:
    """Return the job's shell line as argv: the one place where a shell reads somebody's text, in the payload's own."""
    from pilotwrap.panda.job import PandaJob
    from pilotwrap.run.transformation import prepare as prepare_transformation

    fetched = job.fetched
    if around.transformations is None or not isinstance(fetched, PandaJob):
        raise InternalError("a fetched job that cannot be prepared")
    _bring([_of_panda(file, around) for file in fetched.inputs], job.directory, terms)
    line = prepare_transformation(
        fetched.transformation, fetched.parameters, job.directory, around.transformations, terms
    )
    return argv_of(line)


def _bring(transfers: list[Transfer], directory: Path, terms: Terms) -> None:
    if transfers:
        from pilotwrap.run.staging import stage_in

        stage_in(transfers, directory, terms)


def _of_spec(file: JobFile) -> Transfer:
    url = file.url or (path_url(file.path) if file.path else None)
    if url is None:
        raise BadInputError(f"input {file.lfn} has neither url nor path", remedy="give one of them in the spec")
    return Transfer(lfn=file.lfn, url=url, size=file.size, adler32=file.adler32, sha256=file.sha256)


def _of_panda(file: InputFile, around: Surroundings) -> Transfer:
    if around.storage is None:
        raise StageInError(
            f"no place is known for input {file.lfn}",
            why="no storage map was given",
            remedy="give --storage FILE, which maps storage endpoints to URLs",
        )
    url = around.storage.url(file.endpoint or "", file.lfn)
    return Transfer(lfn=file.lfn, url=url, size=file.size, adler32=file.adler32, md5=file.md5)


def request_of(job: Job, around: Surroundings, command: tuple[str, ...]) -> PlanRequest:
    """Return what is to be planned for a job whose command is known."""
    return PlanRequest(
        job=job.spec.model_copy(update={"command": command}),
        allocation=around.allocation,
        shim=shim_argv(around.run, around.host_argv, around.run.path / "plans" / f"{job.name}.shim.json"),
        hosts=job.allotment.hosts if job.allotment else None,
        cores=job.allotment.cores if job.allotment else None,
        devices=job.allotment.devices if job.allotment else None,
        teller=around.teller if job.fetched else "caller",
        agent="direct" if job.fetched else "none",
        tell_s=around.rules.tell_s,
    )


def hand_over(directory: Path, user: dict[str, Any] | None) -> None:
    """Give a directory and all in it to the user whom the payload runs as."""
    if user is None:
        return
    for folder, _folders, files in os.walk(directory):
        for path in (folder, *(os.path.join(folder, name) for name in files)):  # noqa: PTH118 - os.walk's own texts
            _give(Path(path), user)


def _give(path: Path, user: dict[str, Any] | None) -> None:
    if user is not None:
        os.chown(path, user["uid"], user["gid"], follow_symlinks=False)
