"""Two hosts on this one: a network and UTS namespace each, joined by a bridge, and a remote shell between them.

All of it is inside of namespaces of its own, so that its end is everything's end and nobody else sees it.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

HOSTS = ("node1", "node2")

_WORLD = """
set -e
cd "$1"; shift
mount --make-rprivate /
ip link set lo up
ip link add br0 type bridge
ip link set br0 up
for number in 1 2; do
    unshare --net --uts --mount sh -c 'hostname "$0"; mount --bind hosts /etc/hosts; : > "up.$0"; exec sleep 600' \\
        "node$number" < /dev/null > /dev/null 2>&1 &
    echo $! > "pid.node$number"
    until [ -e "up.node$number" ]; do sleep 0.01; done
    ip link add "v$number" type veth peer name eth0 netns "$!"
    ip link set "v$number" master br0 up
    nsenter -t "$!" -n sh -c "ip link set lo up; ip addr add 10.77.0.$number/24 dev eth0; ip link set eth0 up"
done
code=0
./remote node1 "$@" || code=$?
for _ in $(seq 100); do
    left=$(pgrep -c -f "{mark}" || true)
    [ "$left" -gt 0 ] || break
    sleep 0.1
done
[ "$left" = 0 ] || echo "$left left"
exit "$code"
"""

MARK = "300.31415"
"""Seconds to sleep; a word of processes that must be gone 10 s after the command, or the last line is `N left`."""

_REMOTE = """#!/bin/sh
while [ "${{1#-}}" != "$1" ]; do shift; done
pid=$(cat "{folder}/pid.$1"); shift
exec nsenter -t "$pid" -n -u -m sh -c 'cd {folder} && eval "$*"' sh "$@"
"""
"""As ssh does it: options first, then the host, then words that a shell on the other side reads."""


def missing() -> str:
    """Return why there can be no hosts here; empty if there can."""
    if os.geteuid() != 0:
        return "only root makes hosts of namespaces: sudo"
    lacking = [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]
    return f"no {' '.join(lacking)}: apt-get install iproute2 util-linux" if lacking else ""


def remote_shell(folder: Path) -> Path:
    """Write what stands for ssh, and return its path."""
    path = folder / "remote"
    path.write_text(_REMOTE.format(folder=folder))
    path.chmod(0o755)
    return path


def run_on_first(
    folder: Path, argv: Sequence[str], env: Mapping[str, str], timeout_s: float = 60
) -> "subprocess.CompletedProcess[str]":
    """Run a command on the first host of two that exist for as long as it runs."""
    (folder / "hosts").write_text("127.0.0.1 localhost\n10.77.0.1 node1\n10.77.0.2 node2\n")
    world = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    quoted = [f"'{word}'" for word in argv]
    assert not any("'" in word for word in argv)
    return subprocess.run(
        [*world, "sh", "-c", _WORLD.replace("{mark}", f"[{MARK[0]}]{MARK[1:]}"), "sh", str(folder), *quoted],
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
