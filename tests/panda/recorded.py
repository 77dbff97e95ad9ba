"""Shapes of real replies: recorded on a panda-server at commit 9cc3603 (August 2026), on loopback, in November 2026."""

from __future__ import annotations

from typing import Any

TRACEBACK = (
    "ERROR : Token authentication failed. Token decode failure. 'NoneType' object has no attribute 'replace' "
    'Traceback (most recent call last):\n  File "/scratch/panda-server/pandaserver/srvcore/panda_request.py", line 36, '
    'in decode_token\n    vo_role = vo.replace(":", ".")\n'
    "AttributeError: 'NoneType' object has no attribute 'replace'\n"
)
AUTH = "ERROR : Token authentication failed. "
TYPE_CRASH = "'types.UnionType' object has no attribute '__name__'"


def envelope(message: str, data: object = None, *, success: bool = False) -> dict[str, object]:
    return {"success": success, "message": message, "data": data}


REFUSED: list[tuple[int, Any, str]] = [
    (403, AUTH + "Invalid token. Not enough segments", "fetch a new one"),
    (403, AUTH + "Invalid token. Signature has expired", "the token has expired"),
    (403, AUTH + "Unknown vo : nosuchvo", "check --origin"),
    (403, AUTH + "Not a member of the atlas/production group", "check --origin"),
    (403, TRACEBACK, "give --origin"),
    (200, envelope("SSL secure connection is required"), "the server saw no credential"),
    (200, envelope("production or pilot role required"), "role production"),
    (200, envelope("no production/pilot role in VOMS FQANs or non pilot owner"), "role production"),
    (200, envelope("role", {"StatusCode": 60}, success=True), "role production"),
    (401, "", "refuses the credential"),
]

BROKEN: list[tuple[int, Any, str]] = [
    (200, envelope("Database error", {"StatusCode": 30}, success=True), "database"),
    (200, envelope("Invalid job status: stagein", {"StatusCode": 50}), "Invalid job status: stagein"),
    (200, envelope("Type error: 'job_id' must be of type int, got str."), "must be of type int"),
    (200, envelope("Argument error: got an unexpected keyword argument 'jobId'"), "unexpected keyword"),
    (200, envelope("", {"StatusCode": 777}, success=True), "StatusCode 777"),
    (200, envelope(""), "without saying why"),
    (500, TYPE_CRASH, "status 500: 'types.UnionType'"),
    (500, "ERROR : received invalid JSON : Expecting value: line 1 column 1 (char 0)", "received invalid JSON"),
    (500, "Traceback (most recent call last):\n  File \"x.py\", line 1\nKeyError: 'job_id'\n", "KeyError: 'job_id'"),
    (403, "ERROR : method update_job is forbidden", "API v1"),
    (404, "nothing here", "status 404"),
]

UNREACHABLE: list[tuple[int, Any, str]] = [
    (200, "{'success': True, 'message': '', 'data': {'StatusCode': 0, 'command': 'NULL'}}", "Python text"),
    (200, "<html><body>Welcome, please log in</body></html>", "a web page"),
    (200, "", "an empty reply"),
    (200, b"\xff\xfe\x00garbage", "no JSON"),
    (200, "StatusCode=0&command=NULL", "no JSON"),
    (200, "[1, 2]", "no object"),
    (200, "null", "no object"),
    (200, "[" * 100_000, "no JSON"),
    (200, {"StatusCode": 0}, "without success"),
    (200, {"success": "true", "message": ""}, "without success"),
    (200, envelope("", None, success=True), "without StatusCode"),
    (200, envelope("", {"StatusCode": "0"}, success=True), "without StatusCode"),
    (200, envelope("", {"StatusCode": 10}, success=True), "ran out of time"),
    (403, "<html>squid: access denied</html>", "a web page, with status 403"),
    (502, "Bad Gateway", "status 502"),
    (503, "<html>busy</html>", "status 503"),
    (302, "", "redirects"),
]

JOB: dict[str, Any] = {
    "StatusCode": 0,
    "PandaID": 25,
    "prodSourceLabel": "managed",
    "transformation": "http://127.0.0.1:25085/trf/runcontainer",
    "jobName": "1a650539-2cc9-4b66-a377-140d0c8c03cf",
    "inFiles": "in1.dat,in2.dat",
    "dispatchDBlockTokenForOut": "NULL,NULL",
    "outFiles": "out.1a650539.dat,log.1a650539.job.log.tgz",
    "destinationDBlockToken": "NULL,NULL",
    "fileDestinationSE": "local,local",
    "logFile": "log.1a650539.job.log.tgz",
    "logGUID": "64daaf67-7fa2-4cca-9346-3e286bc6c98f",
    "jobPars": "--hello world",
    "attemptNr": 1,
    "GUID": "621711ef-4290-460f-9a60-d70d38e9b931,7934288e-e2eb-44c9-a679-3638b077fb31",
    "checksum": "ad:04000001,ad:04000002",
    "fsize": "1024,2048",
    "scopeIn": "test,test",
    "scopeOut": "panda",
    "scopeLog": "panda",
    "ddmEndPointIn": "TEST_SE,TEST_SE",
    "ddmEndPointOut": "TEST_SE,LOG_SE",
    "minRamCount": 1000,
    "maxDiskCount": 100,
    "transferType": "NULL",
    "sourceSite": "NULL",
    "taskID": 1,
    "coreCount": 1,
    "maxWalltime": 3600,
    "resource_type": "SCORE",
    "ioIntensity": None,
    "nSent": 9,
}
