"""`python -m tests.contract.table [--markdown]`: how many exchanges agree, and each that does not."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from .replay import Exchange, listed, replayed

PAGE = """\
# Where the lab differs from a real PanDA server

Of {total} exchanges recorded on a panda-server at commit 9cc3603 (current API only: 0 to 270) and on one of version
0.8.1 at commit 33ecb7e (both APIs: 271 on), the lab answers {agreeing} alike: HTTP status, envelope, message and data,
down to each field of an acquired job. The others:

| exchange | scenario | why it differs |
| --- | --- | --- |
{rows}

What no recorded exchange shows:

- The Adder runs by itself ten times a second; on the real server a finished job stays `holding` for minutes.
- A Harvester that describes itself in its heartbeat is enrolled; the real one must be known before.
- Every acquired job is found at once, or not at all: there is no search for `timeout` - 10 seconds.
- Tokens are the lab's own, known by its database, and good for any number of roles; nothing is signed.
- Calls of `creds`, `event`, `file_server`, `metaconfig`, `statistics` and `task` are unknown.
- Of the legacy calls it has those that a pilot makes; a url-encoded reply's fields may stand in another order.
- A legacy argument that is no number where one is wanted is left out; the real one fails on some and stores others.
- A legacy JSON body that is not gzipped is refused with HTTP 500; the real one's process restarts itself besides.
- A failed job is not tried again: the next attempt of a job is made by parts of PanDA that the lab does not have.

Made by `python -m tests.contract.table --markdown`; the reasons stand in `tests/contract/differences.json`.
"""


def markdown(results: list[tuple[Exchange, list[str]]]) -> str:
    """The page docs/contract-differences.md."""
    agreeing = sum(not found for _, found in results)
    rows = [
        f"| {exchange.n} | {exchange.scenario} | {listed().get(exchange.n, {}).get('why', 'NOT LISTED')} |"
        for exchange, found in results
        if found
    ]
    return PAGE.format(total=len(results), agreeing=agreeing, rows="\n".join(rows))


def plain(results: list[tuple[Exchange, list[str]]]) -> str:
    """The same for a terminal, with what differs."""
    lines = [f"{sum(not found for _, found in results)} of {len(results)} exchanges agree"]
    for exchange, found in results:
        if found:
            why = listed().get(exchange.n, {}).get("why", "NOT LISTED")
            lines += [f"{exchange.n:>4} {exchange.scenario}", *(f"       {each}" for each in found), f"       {why}"]
    return "\n".join(lines) + "\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        results = replayed(Path(folder))
    sys.stdout.write((markdown if "--markdown" in sys.argv else plain)(results))


if __name__ == "__main__":
    main()
