"""A client of the lab that says exactly what a test wants said."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests

if TYPE_CHECKING:
    from pilotwrap.lab.process import Address


@dataclass
class Client:
    address: Address
    token: str = ""
    origin: str = ""
    session: requests.Session = field(default_factory=requests.Session)

    def call(self, name: str, **arguments: object) -> requests.Response:
        headers = {
            "Authorization": f"Bearer {self.token or self.address.token_path.read_text().strip()}",
            "Origin": self.origin or self.address.origin,
            "Content-Type": "application/json",
        }
        url = f"{self.address.url}/api/v1/{name}"
        return self.session.post(url, data=json.dumps(arguments), headers=headers, timeout=30)

    def answer(self, name: str, **arguments: object) -> dict[str, Any]:
        response = self.call(name, **arguments)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def acquire(self, **arguments: object) -> list[dict[str, Any]]:
        answer = self.answer("pilot/acquire_jobs", **{"site_name": self.address.panda_queue, **arguments})
        return list(answer["data"]["jobs"]) if answer["success"] else []

    def command(self, panda_id: int, state: str, **fields: object) -> str:
        answer = self.answer("pilot/update_job", job_id=panda_id, job_status=state, **fields)
        assert answer["success"], answer
        return str(answer["data"]["command"])


def report(*jobs: dict[str, Any]) -> str:
    """A file report that has every output of the jobs, and their logs."""
    return json.dumps(
        {
            lfn: {
                "guid": job["logGUID"] if lfn == job["logFile"] else "1513EBF5-7873-446C-BDBA-9CA96ECA3A4F",
                "fsize": 6,
                "adler32": "084b021f",
            }
            for job in jobs
            for lfn in job["outFiles"].split(",")
        }
    )
