"""OpenPBS's qstat, as far as `qstat -x -f -F json ID` of a running job (openpbs `src/cmds/qstat.c`, `doc/man1`)."""

import json
import os
import sys
import time
from pathlib import Path

from ranks import refuse
from words import options, spellings

KNOWN = spellings({"-x": "!x", "-f": "!f", "-F": "F"})


def main() -> None:
    """Answer for the job that we are in; refuse others with PBS's words and codes."""
    found, ids = options(
        sys.argv[1:],
        KNOWN,
        lambda word: refuse(f"qstat: invalid option -- '{word.lstrip('-')}'\nusage:\nqstat [-f] ...", 2),
        lambda word: refuse(f"qstat: option requires an argument -- '{word.lstrip('-')}'", 2),
    )
    if "F" in found and "f" not in found:
        refuse("qstat: conflicting options.", 2)
    own = os.environ.get("PBS_JOBID")
    if ids != [own]:
        refuse(f"qstat: Unknown Job Id {' '.join(ids)}", 153)  # 15001 modulo 256
    hosts = dict.fromkeys(Path(os.environ["PBS_NODEFILE"]).read_text().split())
    job = {
        "Job_Name": "test",
        "job_state": "R",
        "exec_host": "+".join(f"{host}/0*2" for host in hosts),
        "stime": time.ctime(time.time() - 60),
        "Resource_List": {"walltime": "01:00:00", "select": f"{len(hosts)}:ncpus=2"},
        "resources_used": {"walltime": "00:01:00"},
    }
    print(json.dumps({"timestamp": int(time.time()), "pbs_version": "23.06.06", "Jobs": {own: job}}))


if __name__ == "__main__":
    main()
