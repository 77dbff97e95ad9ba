"""What a pilot reads about a queue and its storage: the texts of schedconfig and ddmendpoints. Pure.

Keys are those that pilot3 3.7.0.36 and 3.11.5.1 look at with the `generic` user plug-in: `pilot/info/queuedata.py`,
`storagedata.py`, `pilot/api/data.py` and `pilot/copytool/mv.py`; docs/lab.md tells which and why.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from pilotwrap.lab.envelope import Json

QueueStatus: TypeAlias = Literal["online", "offline", "test", "brokeroff"]
QUEUE_STATUSES: tuple[QueueStatus, ...] = get_args(QueueStatus)

ENDPOINT = "LAB"
SCOPE = "lab"

_ACTIVITIES = (
    "pr", "pw", "pl", "r", "w", "default",
    "read_lan", "read_wan", "write_lan", "write_wan", "read_lan_analysis", "write_lan_analysis",
)  # fmt: skip
"""What transfers are called: the first line by 3.7, the second by 3.11; a pilot looks up whichever it knows."""

_LOCAL = "file://localhost"
"""The prefix that the mv copytool takes off a transfer URL to have a path."""


@dataclass(frozen=True)
class Queue:
    """A queue as a pilot sees it."""

    name: str
    status: QueueStatus = "online"


def queuedata_text(queue: Queue) -> str:
    """Return what the server's cache has as `QUEUE.all.json`; a pilot's `--queuedata-url`, URL or file."""
    return json.dumps(_queuedata(queue), indent=1)


def schedconfig_text(queue: Queue) -> str:
    """Return the same with the queue's name as its key, as CRIC has it; a pilot's `LOCAL_AGIS_SCHEDCONF`."""
    return json.dumps({queue.name: _queuedata(queue)}, indent=1)


def storage_text(files: Path | None) -> str:
    """Return what is known of the storage endpoint; a pilot's `--storagedata-url`, URL or file.

    Without a folder (None) the endpoint has no protocol: a pilot can neither stage in nor out.
    """
    protocols: list[Json] = []
    if files is not None:
        protocols = [{"endpoint": _LOCAL, "flavour": "FILE", "id": 1, "path": f"{files.absolute()}/"}]
    storage: dict[str, Json] = {
        "arprotocols": dict.fromkeys(_ACTIVITIES, protocols),
        "id": 1,
        "is_deterministic": True,
        "name": ENDPOINT,
        "resource": {},
        "rprotocols": {},
        "site": ENDPOINT,
        "state": "ACTIVE",
        "token": "",
        "type": "DATADISK",
    }
    return json.dumps({ENDPOINT: storage}, indent=1)


def storage_path(lfn: str, scope: str = SCOPE) -> str:
    """Return where a file lies under the folder: Rucio's deterministic path, by the MD5 of `scope:lfn`."""
    digest = hashlib.md5(f"{scope}:{lfn}".encode(), usedforsecurity=False).hexdigest()
    return "/".join([*(part for part in scope.split(".") if part), digest[0:2], digest[2:4], lfn])


def _queuedata(queue: Queue) -> dict[str, Json]:
    return {
        "acopytools": {activity: ["mv"] for activity in _ACTIVITIES},
        "allow_lan": True,
        "allow_wan": False,
        "appdir": "",
        "astorages": {activity: [ENDPOINT] for activity in _ACTIVITIES},
        "atlas_site": ENDPOINT,
        "catchall": "mv_final_destination",
        "container_options": "",
        "container_type": "",
        "copytools": {"mv": {}},
        "corecount": 0,
        "direct_access_lan": False,
        "direct_access_wan": False,
        "environ": "",
        "is_cvmfs": False,
        "maxinputsize": -1,
        "maxrss": 0,
        "maxtime": 0,
        "maxwdir": 0,
        "nickname": queue.name,
        "panda_resource": queue.name,
        "params": {},
        "state": "ACTIVE",
        "status": queue.status,
        "timefloor": 0,
        "type": "production",
        "use_pcache": False,
    }
