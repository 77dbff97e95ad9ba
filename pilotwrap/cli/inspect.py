"""`inspect`: look at this node, or interpret a snapshot from elsewhere."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilotwrap.model.snapshot import ProbeSaid, Snapshot

EXAMPLE = "pilotwrap inspect --snapshot node.json"

SYSROOT_VARIABLE = "PILOTWRAP_SYSROOT"
PROBE_TIMEOUT_VARIABLE = "PILOTWRAP_PROBE_TIMEOUT"
_REMEDY = "make one with `pilotwrap inspect --snapshot`"
LONGEST_PROBE_S = 3600.0
"""Nobody waits longer for a driver (a guess); the kernel's poll() takes no infinity."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Name what `inspect` takes."""
    add = parser.add_argument
    add("--json", action="store_true", help="print the facts as JSON (pilotwrap.node/1)")
    add("--snapshot", type=Path, metavar="FILE", help="also write what the node said, raw: the best bug report")
    add("--from", dest="source", type=Path, metavar="FILE", help="interpret that snapshot instead of looking here")
    add("--machine", metavar="NAME", help="take the node for one of this machine, whatever it shows")
    add(
        "--draft", type=Path, metavar="FILE", help="also write a first machine file from it, with what is to be checked"
    )
    add("--sysroot", type=Path, metavar="DIR", help=f"read DIR/sys, DIR/proc, DIR/dev (or {SYSROOT_VARIABLE})")


def main(options: argparse.Namespace) -> int:
    """Print what this node (or a recorded one) is."""
    from pilotwrap.cli.machinefile import machine_for, machine_seen
    from pilotwrap.detect.node import node_facts
    from pilotwrap.site.machines.draft import draft
    from pilotwrap.view.node import described

    snapshot = snapshot_in(options.source) if options.source else snapshot_here(_sysroot(options))
    if options.snapshot:
        _write(options.snapshot, snapshot.to_json() + "\n")
    named = options.machine is not None
    machine = machine_for(options.machine, [Path()]) if named else machine_seen(snapshot)
    facts = node_facts(snapshot, machine)
    sys.stdout.write(facts.to_json() + "\n" if options.json else described(facts))
    shown = options.source and machine is None and not options.json
    if options.draft or shown:
        _tell_draft(draft(facts, snapshot), options.draft)
    return 0


def _sysroot(options: argparse.Namespace) -> str:
    return str(options.sysroot or os.environ.get(SYSROOT_VARIABLE, ""))


def _tell_draft(text: str, path: Path | None) -> None:
    """Write the draft of a machine file; without a place for it, print it behind the facts."""
    if path:
        _write(path, text)
    else:
        sys.stdout.write(f"\n{text}")


def snapshot_in(path: Path) -> Snapshot:
    """Read a snapshot; BadInputError says what is wrong with the file."""
    from pydantic import ValidationError

    from pilotwrap.model.errors import BadInputError
    from pilotwrap.model.snapshot import Snapshot

    try:
        snapshot = Snapshot.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInputError(f"{path} cannot be read", why=error.strerror or str(error)) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise BadInputError(
            f"{path} is no snapshot",
            why=f"{key}: {first['msg']}",
            remedy=_REMEDY,
        ) from error
    if "schema_" not in snapshot.model_fields_set:  # all else may be left out, so any object would do
        raise BadInputError(f"{path} is no snapshot", why="schema: it is missing", remedy=_REMEDY)
    return snapshot


def snapshot_here(sysroot: str = "") -> Snapshot:
    """Observe this node, and probe its NVIDIA devices if it has any."""
    from pilotwrap.host.observe import snapshot as observed
    from pilotwrap.model.errors import BadInputError
    from pilotwrap.model.snapshot import Snapshot
    from pilotwrap.site.accelerators.vendors import asks_nvml

    if sysroot and not Path(sysroot).is_dir():
        raise BadInputError(f"{sysroot} is no directory", remedy="give --sysroot a folder that holds sys, proc and dev")
    snapshot = Snapshot.model_validate(observed(sysroot))
    if not asks_nvml(snapshot):
        return snapshot
    return snapshot.model_copy(update={"probes": (*snapshot.probes, probed())})


def probed() -> ProbeSaid:
    """Ask NVML about the devices of this node, in a child process with a deadline."""
    from pilotwrap.model.errors import BadInputError
    from pilotwrap.probe.run import probe_nvml

    text = os.environ.get(PROBE_TIMEOUT_VARIABLE, "30")
    try:
        timeout_s = float(text)
    except ValueError:
        timeout_s = -1.0
    if not 0 < timeout_s <= LONGEST_PROBE_S:
        why = f"seconds are expected, more than 0 and at most {LONGEST_PROBE_S:.0f}"
        raise BadInputError(f"{PROBE_TIMEOUT_VARIABLE} is {text!r}", why=why, remedy="correct or unset it")
    return probe_nvml(timeout_s)


def _write(path: Path, text: str) -> None:
    from pilotwrap.model.errors import BadInputError

    try:
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise BadInputError(f"{path} cannot be written", why=error.strerror or str(error)) from error
