"""`controller`: what the starter starts, in the image or beside itself; talks to it alone, in JSON lines."""

import argparse
import contextlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pilotwrap import __version__
from pilotwrap.model.errors import PilotwrapError
from pilotwrap.run.link import PROTOCOL, Message, StarterLink

if TYPE_CHECKING:
    from pilotwrap.model.report import RunReport
    from pilotwrap.model.snapshot import ProbeSaid
    from pilotwrap.run.rundir import RunDirectory
    from pilotwrap.site.machines.choice import Choice
    from pilotwrap.view.progress import Progress

EXAMPLE = "started by `pilotwrap run`"
MISMATCH_EXIT = 3
SITE_EXITS = (3, 4)
"""A fault of the node or site, and one of the server (the contract's table)."""

SWITCH_S = 0.0005
"""Threads that hand a job on wait for the interpreter's lock up to its switch interval; the default, 5 ms, was most of
the way from a job's acquisition to its start (measured)."""


def direct(_words: Sequence[str]) -> int:
    """Do a whole run for the starter at the other end of our standard streams."""
    # looking for plug-ins of pydantic opens the metadata of every installed distribution; we have none
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    sys.setswitchinterval(SWITCH_S)
    link = StarterLink.from_standard_streams()
    hello = link.read()
    if hello.get("event") != "hello":
        print("pilotwrap: usage: the controller is started by `pilotwrap run`", file=sys.stderr)
        return 2
    if hello.get("protocol") != PROTOCOL:
        return _finish(link, MISMATCH_EXIT, None, _mismatch(hello))
    try:
        return _run(link, hello)
    except PilotwrapError as error:
        return _finish(link, error.exit_code, _refused(error, hello), f"{error.reason}: {error}")
    except Exception:
        import logging

        logging.getLogger(__name__).exception("a fault of pilotwrap itself; please send these lines with a bug report")
        return _finish(link, 70, None, "internal: pilotwrap failed; its unsent reports wait for `pilotwrap flush`")


def _run(link: StarterLink, hello: Message) -> int:
    from pilotwrap.view.progress import Progress

    namespace = _namespace(hello)
    progress = Progress(sys.stderr, on=bool(hello["tty"]))
    try:
        report, code = _reported(link, hello, namespace, progress)
    finally:
        progress.clear()
    refused = report.state == "failed" and not report.job_count
    # who reads only the exit code's log sees why this node or site ran nothing
    line = f"{report.reason}: {report.detail}" if (refused or code in SITE_EXITS) and report.detail else ""
    if namespace.json:
        return _finish(link, code, report.to_json() + "\n", line)
    if refused and code not in SITE_EXITS:
        return _finish(link, code, None, line)
    from pilotwrap.view.summary import summary

    return _finish(link, code, summary(report, code), line)


def _reported(
    link: StarterLink, hello: Message, namespace: argparse.Namespace, progress: "Progress"
) -> "tuple[RunReport, int]":
    """Return the run's report and exit code, of one that was refused too, unless the mistake is in its words."""
    from pilotwrap.cli.run import options_of
    from pilotwrap.run.controller import Outside, controlled, keep, run_directory
    from pilotwrap.run.summary import refusal

    run: RunDirectory | None = None
    try:
        options = options_of(namespace)
        choice = _choice(hello, namespace)
        run = run_directory(link, hello, options.run_dir)
        outside = Outside(progress=progress.show, probe=_probed, choice=choice)
        return controlled(link, hello, options, run, outside)
    except PilotwrapError as error:
        if run is None and error.reason != "credential":
            raise
        run = run or run_directory(link, hello, namespace.run_dir)
        report = refusal(error, str(run.path))
        keep(run, report)
        return report, error.exit_code


def _probed() -> "ProbeSaid":
    from pilotwrap.cli.inspect import probed

    return probed()


def _namespace(hello: Message) -> argparse.Namespace:
    """Return the words read, each path as seen from where the starter stands, and found in the image."""
    from pilotwrap.cli.main import parser_of
    from pilotwrap.model.errors import UsageError
    from pilotwrap.run.wall import NAMED_FILES, check_files

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            namespace = parser_of("run").parse_args([str(word) for word in hello["words"]])
    except SystemExit as error:
        raise UsageError(said.getvalue().strip().splitlines()[-1].removeprefix("pilotwrap run: error: ")) from error
    stands = Path(hello["cwd"])
    namespace.run_dir = stands / namespace.run_dir
    for option in NAMED_FILES:
        given = getattr(namespace, option)
        if given:
            paths = [stands / path for path in (given if isinstance(given, list) else [given])]
            setattr(namespace, option, paths if isinstance(given, list) else paths[0])
            if hello["enter"]:
                check_files(option, paths)
    return namespace


def _choice(hello: Message, namespace: argparse.Namespace) -> "Choice | None":
    """Return what the user says of the machine; raises BadInputError. One node's controller hears it of its head."""
    from pilotwrap.cli.machinefile import choice_of
    from pilotwrap.run.wall import check_files

    if namespace.part:
        return None
    stands, name = Path(hello["cwd"]), namespace.machine
    if name and name.endswith(".toml"):
        name = str(stands / name)
        if hello["enter"]:
            check_files("machine", [Path(name)])
    return choice_of(name, namespace.spec or [stands / "spec"], hello.get("machines", {}))


def _finish(link: StarterLink, code: int, output: str | None, line: str) -> int:
    if line:
        print(f"pilotwrap: {line}", file=sys.stderr, flush=True)
    link.send({"do": "finish", "exit_code": code, "output": output})
    return code


def _refused(error: PilotwrapError, hello: Message) -> str | None:
    """Return the report of a run that has no directory, for whoever reads JSON."""
    if "--json" not in hello["words"]:
        return None
    from pilotwrap.run.summary import refusal

    return refusal(error).to_json() + "\n"


def _mismatch(hello: Message) -> str:
    return (
        f"the starter (version {hello.get('version')}) and the image (version {__version__}) do not understand each "
        "other; refresh it: RUNTIME exec IMAGE pilotwrap starter > starter.pyz"
    )
