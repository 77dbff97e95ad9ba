"""LSF's bjobs, as far as `bjobs -noheader -o time_left ID` (IBM Spectrum LSF 10.1, bjobs)."""

import os
import sys

from ranks import refuse
from words import last, options, spellings

KNOWN = spellings({"-noheader -a -w": "!show", "-o": "fields"})


def main() -> None:
    """Answer for the job that we are in."""
    found, ids = options(
        sys.argv[1:],
        KNOWN,
        lambda word: refuse(f"{word}: Illegal option.\nUsage: bjobs [options] [jobId]", 255),  # not confirmed
        lambda word: refuse(f"bjobs: {word}: value is missing", 255),
    )
    if ids != [os.environ.get("LSB_JOBID")]:
        refuse(f"Job <{' '.join(ids)}> is not found", 255)
    if last(found, "fields") != "time_left":
        refuse("bjobs: this stand-in knows the field time_left alone", 255)
    print("0:59 L")


if __name__ == "__main__":
    main()
