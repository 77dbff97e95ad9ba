"""`pilotwrap VERB`: finds the verb's module, runs it, and turns every end into one line and an exit code."""

from __future__ import annotations

import importlib
import io
import os
import sys

from pilotwrap import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import NoReturn

USAGE_EXIT = 2
"""As `model/reasons.py` has it for `usage`; that file is not opened only to be the starter, which `run` is."""

VERBS = {
    "inspect": "look at this node, or interpret a snapshot from elsewhere",
    "plan": "print what a run would do, without doing it",
    "run": "the main job: run specs, or fetch PanDA jobs and run them",
    "why": "say in one sentence why a run ended, then the evidence",
    "doctor": "say what would stop a run here, and what to do about it",
    "flush": "send what a dead run left unreported",
    "starter": "print the one-file starter for a host with nothing but Python",
    "demo": "the whole flow here with an embedded server, in under a minute",
    "lab": "the embedded PanDA server: serve, put, jobs",
    "schema": "print the JSON Schema of one of the values",
    "machines": "list the machines that are known",
    "template": "print what a site needs, filled in: the batch script of a machine",
}


def parser_of(verb: str) -> argparse.ArgumentParser:
    """Return the parser of one verb; its module is imported only now."""
    import argparse

    module = importlib.import_module(f"pilotwrap.cli.{verb}")
    parser = argparse.ArgumentParser(
        prog=f"pilotwrap {verb}",
        description=VERBS.get(verb, ""),
        epilog=f"example: {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,  # an example that is cut in two does not work as printed
    )
    module.arguments(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors come out as one line on stderr."""
    if not argv or argv[0] in {"-h", "--help"}:
        print(overview())
        return 0 if argv else USAGE_EXIT
    if argv[0] in {"-V", "--version"}:
        print(f"pilotwrap {__version__}")
        return 0
    if argv[0] not in VERBS and argv[0] != "controller":
        print(f"pilotwrap: no verb {argv[0]!r}; one of: {', '.join(VERBS)}", file=sys.stderr)
        return USAGE_EXIT
    return _run_verb(argv[0], argv[1:])


def overview() -> str:
    """Return the page that `pilotwrap --help` prints."""
    rows = "\n".join(f"  {verb:<9} {summary}" for verb, summary in VERBS.items())
    return f"usage: pilotwrap VERB …\n\n{rows}\n\nexample: pilotwrap demo\n`pilotwrap VERB --help` says more of each."


def program_name() -> str:
    """Return what a person types for this program, as it was called."""
    called = sys.argv[0]
    return f"{sys.executable} -m pilotwrap" if called.endswith("__main__.py") else called


def _run_verb(verb: str, rest: Sequence[str]) -> int:
    module = importlib.import_module(f"pilotwrap.cli.{verb}")
    if hasattr(module, "direct"):  # parsed elsewhere: the starter passes its words on unread
        outcome = module.direct(rest)
        if isinstance(outcome, int):
            return outcome
    from pilotwrap.model.errors import PilotwrapError, SiteEnvironmentError

    try:
        options = parser_of(verb).parse_args(rest)
        code = int(module.main(options))
        sys.stdout.flush()
    except PilotwrapError as error:
        return _tell(error, as_json="--json" in rest)
    except KeyboardInterrupt:
        print("pilotwrap: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        _print_no_more()
        return 141
    except OSError as error:  # a full disk behind our output, above all
        _print_no_more()
        why = error.strerror or str(error)
        return _tell(SiteEnvironmentError(f"{error.filename or 'the output'} failed us", why=why), as_json=False)
    return code


def _print_no_more() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _tell(error: Exception, *, as_json: bool) -> int:
    import json
    import logging

    from pilotwrap.model.errors import PilotwrapError

    assert isinstance(error, PilotwrapError)  # noqa: S101 - its caller catches nothing else
    logging.getLogger(__name__).debug("ended by", exc_info=error)
    print(f"pilotwrap: {error.reason}: {error}", file=sys.stderr)
    if as_json:
        print(json.dumps({"reason": error.reason, "exit_code": error.exit_code, "message": str(error)}))
    return error.exit_code


def program() -> NoReturn:
    """Be the program `pilotwrap`."""
    _say_any_letter()
    sys.exit(main(sys.argv[1:]))


def _say_any_letter() -> None:
    """Let no letter of a node's or a file's words end us: a terminal shows what it can, JSON in a pipe is UTF-8."""
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and out.encoding.lower() != "utf-8":
        out.reconfigure(encoding=None if out.isatty() else "utf-8", errors="backslashreplace")
