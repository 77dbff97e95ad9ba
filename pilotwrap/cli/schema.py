"""`schema`: the JSON Schema of a value of the contract."""

import argparse
import json
import sys

EXAMPLE = "pilotwrap schema job"

NAMES = {
    "job": "pilotwrap.model.job:JobSpec",
    "snapshot": "pilotwrap.model.snapshot:Snapshot",
    "node": "pilotwrap.model.node:NodeFacts",
    "allocation": "pilotwrap.model.allocation:AllocationFacts",
    "plan": "pilotwrap.model.plan:Plan",
    "outcome": "pilotwrap.model.outcome:Outcome",
    "jobreport": "pilotwrap.model.report:JobReport",
    "report": "pilotwrap.model.report:RunReport",
    "doctor": "pilotwrap.model.readiness:Readiness",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Name what `schema` takes."""
    parser.add_argument("name", choices=sorted(NAMES), help="which value")


def main(options: argparse.Namespace) -> int:
    """Print the schema."""
    json.dump(schema_of(options.name), sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


def schema_of(name: str) -> dict[str, object]:
    """Return the JSON Schema of one value, keys as the contract writes them."""
    import importlib

    module, _, kind = NAMES[name].partition(":")
    schema: dict[str, object] = getattr(importlib.import_module(module), kind).model_json_schema(by_alias=True)
    return {"$id": f"pilotwrap.{name}/1", **schema}
