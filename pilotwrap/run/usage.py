"""Resource use in the JSON form of prmon, the HSF's process monitor, which PanDA's tools read."""

import json

from pilotwrap import __version__
from pilotwrap.model.outcome import Usage


def prmon_summary(usage: Usage) -> str:
    """Return the JSON text of a prmon summary that holds what was measured, and no key that was not.

    Names and units are prmon's: `rss` in kB of 1024 bytes as the kernel says it, `wtime`, `utime` and `stime` in whole
    seconds. prmon's README and monitor sources define them.
    """
    measured = {
        "rss": usage.max_rss_kib,
        "stime": round(usage.system_s),
        "utime": round(usage.user_s),
        "wtime": round(usage.wall_s),
    }
    return json.dumps({"Avg": {}, "Max": measured, "prmon": {"Version": f"pilotwrap {__version__}"}})
