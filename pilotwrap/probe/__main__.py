"""`python -m pilotwrap.probe SECONDS`: what NVML says here, as one line of JSON, for the survey."""

import json
import sys

from pilotwrap.probe.run import said_by_nvml


def program(words: list[str]) -> int:
    """Print it without the marks: a survey has a thousand such lines, and what a mark is for is told already."""
    said = said_by_nvml(float(words[0]))
    said["records"] = [record for record in said["records"] if record["kind"] != "mark"]
    sys.stdout.write(json.dumps(said) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(program(sys.argv[1:]))
