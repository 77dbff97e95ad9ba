"""A program for a room of its own (a network with loopback alone, its own processes): a lab, and PanDA's bare pilot.

`python alone.py FOLDER API`: FOLDER, which anybody may enter, holds the pilot under `pilot3` and the job as `job.json`;
the lab's storage is `FOLDER/storage`. It prints one JSON line when the server has the job's end or the pilot went.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pilotwrap.lab.listing import listed_jobs
from pilotwrap.lab.process import Address, LabProcess
from pilotwrap.lab.put import put_files
from pilotwrap.lab.store import Store

NOBODY = 65534
PATIENCE_S = 150
ENDED = {"finished", "failed", "closed", "cancelled"}
WORDS = {
    "--pilot-user": "generic",
    "--workflow": "generic",
    "--joblabel": "managed",
    "--versiontag": "PR",
    "--lifetime": "3600",
    "--getjobrequests": "1",
    "--use-rucio-traces": "False",
}


@dataclass(frozen=True)
class Room:
    """The folders of one pilot."""

    folder: Path

    @property
    def storage(self) -> Path:
        return self.folder / "storage"

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def auth(self) -> Path:
        return self.folder / "auth"

    def open_to_nobody(self) -> None:
        for folder in (self.storage, self.work, self.auth):
            folder.mkdir(exist_ok=True)
        for path in (self.work, self.auth, self.storage, *self.storage.rglob("*")):
            os.chown(path, NOBODY, NOBODY)


def command(room: Room, address: Address) -> list[str]:
    """What the pilot is told; an input is looked for under its `--input-destination-dir`."""
    host, _, port = address.url.rpartition(":")
    told = {
        **WORDS,
        "--queue": address.panda_queue,
        "--workdir": str(room.work),
        "--url": host,
        "--port": port,
        "--queuedata-url": f"{address.url}/cache/schedconfig/{address.panda_queue}.all.json",
        "--storagedata-url": f"{address.url}/cache/ddmendpoints.json",
        "--input-destination-dir": str(room.storage),
    }
    words = [word for pair in told.items() for word in pair]
    return ["/usr/bin/python3", str(room.folder / "pilot3" / "pilot.py"), *words, "--noproxyverification", "--debug"]


def environment(room: Room, address: Address) -> dict[str, str]:
    """All that the pilot sees; the token's folder ends with a slash, for the pilot takes the name's folder part."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(room.work),
        "TMPDIR": str(room.work),
        "PILOT_NOKILL": "1",
        "PANDA_AUTH_DIR": f"{room.auth}/",
        "PANDA_AUTH_TOKEN": "token",
        "PANDA_AUTH_ORIGIN": address.origin,
        "LOCAL_AGIS_SCHEDCONF": f"{address.url}/cache/schedconfig/{address.panda_queue}.json",
        "http_proxy": address.url,
        "no_proxy": "127.0.0.1",
    }


def give_token(room: Room, address: Address) -> None:
    token = room.auth / "token"
    token.write_text(address.token_path.read_text().strip())  # a line's end would break the pilot's header
    token.chmod(0o400)
    os.chown(token, NOBODY, NOBODY)


def state(db: Path) -> str:
    store = Store(db)
    try:
        return str(listed_jobs(store)[0]["state"])
    finally:
        store.close()


def run(folder: Path, api: str) -> dict[str, object]:
    room, db = Room(folder), folder / "private" / "lab.sqlite"
    db.parent.mkdir(mode=0o700)
    room.open_to_nobody()
    store = Store(db)
    put_files(store, [folder / "job.json"])
    store.close()
    with LabProcess(db, ["--files", str(room.storage)], "legacy" if api == "legacy" else "both") as lab:
        give_token(room, lab.address)
        words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs", "--"]
        begun = time.monotonic()
        with (folder / "pilot.out").open("wb") as out:
            pilot = subprocess.Popen(
                [*words, *command(room, lab.address)],
                cwd=room.work,
                env=environment(room, lab.address),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
            while state(db) not in ENDED and pilot.poll() is None and time.monotonic() < begun + PATIENCE_S:
                time.sleep(0.2)
        store = Store(db)
        told = {"job": listed_jobs(store)[0], "exit_code": pilot.poll(), "seconds": time.monotonic() - begun}
        spec = store.row("SELECT spec, report FROM jobs")
        store.close()
        pilot.kill()
        pilot.wait()
    return {**told, "spec": json.loads(spec["spec"]), "report": spec["report"]} if spec else dict(told)


if __name__ == "__main__":
    subprocess.run([shutil.which("ip") or "/sbin/ip", "link", "set", "lo", "up"], check=True)
    print(json.dumps(run(Path(sys.argv[1]), sys.argv[2])))
