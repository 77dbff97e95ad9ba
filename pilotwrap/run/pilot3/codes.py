"""The pilot's error codes and exit codes: which of our reasons each means, and in which words.

Sources: pilot/common/errorcodes.py and pilot/util/auxiliary.py of pilot3 3.7.0.36 and 3.11.5.1 (1208 and 1377 to 1386
are the newer one's alone).
"""

from collections.abc import Mapping
from typing import NamedTuple

from pilotwrap.model.reasons import Reason


class Meaning(NamedTuple):
    """What a code means: our reason, why in a few words, and what to do where it is not what the reason says."""

    reason: Reason
    why: str
    do: str = ""


_ERRORS: Mapping[Reason, Mapping[int, str]] = {
    "payload-exit": {
        1104: "the payload filled more of the disk than the job may",
        1106: "the payload's stdout or log grew too large",
        1150: "the payload wrote nothing for so long that it was taken for looping",
        1187: "the payload left no metadata",
        1220: "the payload failed for an unknown reason",
        1305: "the payload failed",
        1310: "the payload could not be executed",
        1315: "the transformation failed for an unknown reason",
        1343: "the payload's job report names no output",
        1351: "the transformation wrote a fatal error to its stderr",
        1355: "the payload dumped its core",
        1356: "the job's preparing command failed",
        1357: "the job's finishing command failed",
    },
    "payload-signal": {1328: "the payload crashed with a segmentation fault"},
    "out-of-memory": {
        1212: "the payload ran out of memory",
        1223: "the payload could not allocate memory",
        1235: "the payload used more memory than the job may",
    },
    "stage-in": {
        1099: "an input could not be fetched",
        1100: "an input has no replica",
        1145: "an input's md5 checksum is another",
        1151: "fetching an input took too long",
        1168: "the inputs are too large together",
        1171: "an input's adler32 checksum is another",
        1180: "the transfer of an input failed in Globus",
        1242: "an input's checksum cannot be asked for",
        1314: "an input's checksum is of an unknown type",
        1316: "Rucio does not answer",
        1321: "Rucio does not know where this node is",
        1322: "Rucio did not list an input's replicas",
        1326: "no replica of an input can be reached from here",
        1327: "the network towards an input is unreachable",
        1331: "an input is not in its storage",
        1339: "the database release could not be set up",
        1361: "an input could not be opened over the network",
        1362: "xrdcp could not open an input",
        1368: "opening an input over the network took too long",
        1374: "the record of the inputs opened over the network is not there",
    },
    "stage-out": {
        1124: "an output is too large",
        1137: "an output could not be stored",
        1141: "an output's md5 checksum changed on its way",
        1152: "storing an output took too long",
        1165: "an output is not there",
        1172: "an output's adler32 checksum changed on its way",
        1181: "the transfer of an output failed in Globus",
        1190: "an output's name is longer than 255 characters",
        1191: "an output is empty",
        1221: "an output is in the storage already",
        1320: "the log could not be packed",
        1333: "the storage is full",
        1350: "an output is empty",
        1366: "an output's checksum could not be computed",
        1371: "an output's name has characters that are not allowed",
        1376: "packing the log took too long",
    },
    "walltime": {
        1204: "it was sent SIGXCPU: the CPU time is used up",
        1213: "the time that the pilot was given is used up",
        1317: "it waited for too long",
        1367: "a command took too long",
        1375: "its lease is over",
    },
    "bad-input": {
        1143: "the transformation could not be made executable",
        1149: "the transformation was refused or could not be downloaded",
        1246: "the user's tarball could not be downloaded",
        1247: "the job's XML is malformed",
        1335: "the user's code is no longer on the server",
        1346: "the transformation is not there",
        1349: "the transformation does not know its arguments",
    },
    "node-unusable": {
        1332: "the file system swallows what is written",
        1344: "the node is out of processes or another resource",
        1347: "the node's system is too old",
        1352: "/proc cannot be read",
    },
    "image": {
        1306: "the container's runtime failed",
        1307: "the container's runtime found no free loop device",
        1308: "a directory cannot be bound into the container",
        1309: "the container's image cannot be mounted",
        1325: "Singularity is not installed",
        1340: "the container's runtime got no user namespace",
        1345: "the container's runtime could not make a user namespace",
        1348: "the container's runtime is out of a resource",
        1360: "the container's image is not there",
        1372: "Apptainer is not installed",
    },
    "environment": {
        1098: "the disk is too full",
        1110: "the payload's environment could not be set up",
        1115: "SQLite cannot lock on this NFS",
        1186: "the software's directory is not there",
        1199: "a directory could not be made",
        1211: "the software is not installed",
        1244: "the software's release is not there",
        1334: "the payload's environment could not be set up",
        1342: "the middleware cannot be imported",
        1358: "the release in the unpacked container cannot be set up",
        1365: "Python's ctypes is not there",
        1369: "the conditions database (Frontier) failed",
        1377: "CVMFS does not answer",
        1378: "lsetup took too long",
    },
    "credential": {
        1163: "the proxy is not valid",
        1177: "the VOMS proxy is not valid",
        1338: "the storage refused the credential when an input was fetched",
        1364: "the credentials for S3 are not there",
        1370: "the VOMS proxy is about to expire",
        1373: "the certificate has expired",
        1380: "arcproxy failed",
        1381: "arcproxy lacks a library",
        1382: "the proxy is valid for too short a time",
        1383: "the storage refused the credential when an output was stored",
    },
    "panda-queue": {
        1116: "the queue's data could not be had",
        1117: "the queue's data make no sense",
        1133: "the queue names no storage for outputs",
        1313: "the queue's storage names no protocol",
        1323: "the queue names an unknown copy tool",
        1329: "the queue's storage is not deterministic",
        1341: "the queue's configuration contradicts itself",
        1359: "the queue is not ACTIVE",
        1384: "the queue is not set up for containers",
        1386: "the queue is not online",
    },
    "server": {
        1318: "the server did not answer",
        1324: "a service does not answer",
        1330: "a service's JSON did not come in time",
    },
    "no-work": {1385: "the server had no job"},
    "preempted": {1379: "it was preempted"},
    "cancelled": {
        1144: "the server had the job killed",
        1200: "it was sent a signal",
        1201: "it was sent SIGTERM",
        1202: "it was sent SIGQUIT",
        1203: "it was sent SIGSEGV",
        1205: "the user had the job killed",
        1206: "it was sent SIGBUS",
        1207: "it was sent SIGUSR1",
        1208: "it was sent SIGINT",
        1234: "a clone of the job has run already",
        1236: "the server failed the job",
        1336: "the job runs elsewhere already",
        1363: "the payload was to be ended",
    },
    "pilot": {
        1008: "it failed in general",
        1103: "it missed a file of its own",
        1300: "it lacks what the job needs",
        1301: "it raised an exception that it does not know",
        1302: "it could not convert the job's data",
        1303: "it could not handle a file",
        1311: "it missed a definition",
        1312: "the job's lists of files have different lengths",
        1319: "it has an internal problem",
        1337: "its memory monitor wrote nonsense",
        1353: "it lost the payload's process while counting its CPU time",
        1354: "it could not count the payload's CPU time",
    },
}

ERROR_CODES: Mapping[int, Meaning] = {
    code: Meaning(reason, why) for reason, codes in _ERRORS.items() for code, why in codes.items()
}
"""pilotErrorCode to what it means. The event service's codes (1224, 1228, 1238, 1240) are no site's: not listed."""

INTERRUPTIONS = frozenset({1144, 1200, 1201, 1202, 1203, 1204, 1205, 1206, 1207, 1208, 1213, 1363, 1379})
"""Codes which say that it was ended from outside: who ended it knows the reason better."""

DISGUISES: Mapping[int, int] = {1378: 2, 1368: 3}
"""Codes that 3.11.5.1 gives to any payload which exits with the code beside them (errorcodes.py, measured)."""

EXIT_CODES_OF_PILOT: Mapping[int, Meaning] = {
    2: Meaning("pilot", "it did not understand its command line"),
    64: Meaning("environment", "it took the site for offline, or CVMFS did not answer"),
    65: Meaning("pilot", "it failed in general"),
    66: Meaning("environment", "it could not make a directory"),
    67: Meaning("pilot", "it missed a file"),
    68: Meaning("credential", "the proxy or token is not valid"),
    69: Meaning("environment", "the disk is too full: it wants 2 GB (2,147,483,648 bytes) free"),
    70: Meaning("pilot", "it raised an exception"),
    71: Meaning("panda-queue", "the queue's data could not be had"),
    72: Meaning("panda-queue", "the queue's data make no sense"),
    73: Meaning("environment", "the software's directory is not there"),
    74: Meaning("server", "a service's JSON did not come in time"),
    75: Meaning("node-unusable", "the file system swallows what is written"),
    76: Meaning("environment", "the middleware cannot be imported"),
    77: Meaning("stage-in", "an input is not in its storage"),
    78: Meaning("panda-queue", "the queue is not ACTIVE"),
    79: Meaning("server", "the server did not answer"),
    80: Meaning("credential", "the proxy is valid for too short a time"),
    81: Meaning("walltime", "the time that it was given is used up"),
    82: Meaning("no-work", "the server had no job"),
    83: Meaning("panda-queue", "the queue is not online"),
    130: Meaning("cancelled", "it was sent SIGINT"),
    131: Meaning("cancelled", "it was sent SIGQUIT"),
    135: Meaning("cancelled", "it was sent SIGBUS"),
    137: Meaning(
        "pilot",
        "it was killed: by the kernel for want of memory, or by somebody with SIGKILL",
        "look at the batch system's record and the kernel's log for the memory killer",
    ),
    138: Meaning("cancelled", "it was sent SIGUSR1 (or SIGBUS, before 3.11)"),
    139: Meaning("pilot", "it crashed with SIGSEGV"),
    143: Meaning("cancelled", "it was sent SIGTERM"),
    144: Meaning("cancelled", "it was sent SIGUSR1"),
    152: Meaning("walltime", "it was sent SIGXCPU: the CPU time is used up"),
    158: Meaning("walltime", "it was sent SIGXCPU: the CPU time is used up"),
}
"""The shell's exit codes of pilot.py; 144 and 158 are 3.7.0.36's numbers for what later became 138 and 152. 3.7.0.36
exits with 1 instead of 71 and 78: it crashes on its way out (measured)."""
