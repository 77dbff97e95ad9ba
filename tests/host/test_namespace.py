"""A payload in a PID namespace of its own: it sees nobody else, and nothing of it outlives it."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from talk import HERE, Talk, marked, parent_of, state, until

from pilotwrap.host import descendants, pack, wire

NOBODY = 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
SYSTEM_PYTHON = "/usr/bin/python3"
WHO = ["me", "nobody"] if os.getuid() == 0 else ["me"]


class Yard:
    """A one-file starter of one user, in a folder that this user may write to."""

    def __init__(self, who: str, folder: Path, *before: str) -> None:
        self.nobody = who == "nobody"
        self.folder = folder
        self.python = SYSTEM_PYTHON if self.nobody else sys.executable
        self.uid = NOBODY if self.nobody else os.getuid()
        for name in ("inmate.py", "refusing.py", "relay_controller.py"):
            shutil.copy(HERE / name, folder)
        (folder / "starter.pyz").write_bytes(pack.packed())
        way = f"{self.python} {folder}/relay_controller.py {folder}/socket"
        (folder / "way").write_text(f"#!/bin/sh\nexec {way}\n")
        (folder / "way").chmod(0o755)
        refusing = [self.python, f"{folder}/refusing.py", *before] if before else []
        own = [self.python, "-I", "-S", f"{folder}/starter.pyz", "run", "--enter", f"{folder}/way"]
        self.talk = Talk(folder, argv=[*(AS_NOBODY if self.nobody else []), *refusing, *own])

    def deed(self, *deed: str, **more: object) -> int:
        argv = [self.python, "-S", f"{self.folder}/inmate.py", *deed]
        return self.talk.spawn(argv, **{"pid_namespace": True, **more})

    def started(self, *deed: str, **more: object) -> tuple[int, int]:
        """Start it in a namespace and wait for its deed; its order, and its pid out here."""
        order = self.deed(*deed, **more)
        pid = self.granted()["pid"]
        self.talk.done(order)
        return order, pid

    def granted(self) -> dict:
        started = self.talk.hear("started", "failed")
        if not started.get("pid_namespace", True):
            pytest.skip(f"no PID namespace is granted here ({started['why']}): allow user namespaces")
        return started

    def said(self, *deed: str, **more: object) -> dict[str, str]:
        """Return what a deed printed, by the first word of its lines."""
        self.deed(*deed, stdout=str(self.folder / "out"), stderr=str(self.folder / "err"), **more)
        self.granted()
        exited = self.ended()
        assert exited["exit_code"] == 0, (self.folder / "err").read_text()
        return dict(line.split(" ", 1) for line in (self.folder / "out").read_text().splitlines())

    def ended(self) -> dict:
        return self.talk.hear("exited", "failed")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user may reach; pytest's own is closed to all others."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o777)
        yield path


@pytest.fixture(params=WHO)
def yard(request: pytest.FixtureRequest, folder: Path) -> Iterator[Yard]:
    made = Yard(request.param, folder)
    yield made
    made.talk.close()


def inner(pid: int) -> tuple[int, int]:
    """Return the init and the keeper of a payload."""
    init = parent_of(pid)
    return init, parent_of(init)


def test_a_payload_sees_itself_and_its_init_and_leads_no_session(yard: Yard) -> None:
    seen = yard.said("look")
    assert (seen["pids"], seen["parent"]) == ("True", "1")
    assert (seen["session"], seen["group"]) == ("1 False", "True")
    assert seen["fds"] == "[0, 1, 2]"
    assert seen["uid"].split()[0] == str(yard.uid)


def test_no_capability_of_the_namespace_reaches_a_payload(yard: Yard) -> None:
    seen = yard.said("look")
    if yard.uid:
        assert (seen["caps"], seen["reach"]) == ("0", "False False")
    else:
        assert seen["reach"] == "True True"


def test_ps_shows_nobody_else(yard: Yard) -> None:
    yard.talk.spawn(["sh", "-c", "ps -e -o pid= ; true"], stdout=str(yard.folder / "out"), pid_namespace=True)
    yard.granted()
    yard.ended()
    assert 2 <= len((yard.folder / "out").read_text().split()) <= 3


def test_init_reaps_a_thousand_orphans(yard: Yard) -> None:
    assert yard.said("orphans", "1000")["left"] == "[]"


def test_what_kills_all_orphans_of_its_user_meets_only_its_own(yard: Yard) -> None:
    # 200 of the same user with parent 1 or another reaper, seen by anybody who shares our processes
    script = "for i in $(seq 200); do (sleep 300 >/dev/null & echo $!); done"
    argv = [*(AS_NOBODY if yard.nobody else []), "sh", "-c", script]
    said = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, stdin=subprocess.DEVNULL)
    others = [int(word) for word in said.stdout.split()]
    try:
        assert yard.said("kill_orphans")["killed"] == "1"
        assert [state(pid) for pid in others].count("S") == len(others) == 200
    finally:
        for pid in others:
            os.kill(pid, signal.SIGKILL)


def test_daemons_end_with_the_payload_and_are_counted(yard: Yard) -> None:
    yard.started("daemons", "7")
    exited = yard.ended()
    assert (exited["exit_code"], exited["signal"], exited["left"]) == (7, None, 5)
    assert exited["contained"] == "namespace"
    yard.talk.no_payload_left()


@pytest.mark.parametrize("deed", ["leave 0", "leave 7", "die 9", "die 15", "die 6"])
def test_how_a_payload_ended_is_told(yard: Yard, deed: str) -> None:
    yard.deed(*deed.split())
    yard.granted()
    exited = yard.ended()
    kind, number = deed.split()
    expected = (int(number), None) if kind == "leave" else (None, int(number))
    assert (exited["exit_code"], exited["signal"]) == expected
    assert (exited["left"], exited["note"], exited["timed_out"]) == (0, None, False)
    assert set(exited["usage"]) == set(wire.USAGE)


def test_wall_time_ends_even_the_deaf_and_what_they_used_is_counted(yard: Yard) -> None:
    yard.started("burn", wall_s=2.5, grace_s=0.2)
    exited = yard.ended()
    assert (exited["timed_out"], exited["signal"]) == (True, signal.SIGKILL)
    assert 0.45 <= exited["usage"]["user_s"] + exited["usage"]["system_s"] < 3
    assert exited["usage"]["max_rss_kib"] > 4096
    yard.talk.no_payload_left()


def test_who_obeys_has_the_grace(yard: Yard) -> None:
    order, _pid = yard.started("obedient")
    yard.talk.say(do="signal", id=order, signal=15, grace_s=10.0)
    assert yard.ended()["exit_code"] == 5


def test_the_grace_is_also_for_whom_a_shell_waited(yard: Yard) -> None:
    saves = "trap 'sleep 0.3; echo saved; exit' TERM; touch $READY; sleep 60 & wait"
    out = str(yard.folder / "out")
    order = yard.talk.spawn(["sh", "-c", 'sh -c "$1"; true', "sh", saves], stdout=out, pid_namespace=True)
    yard.granted()
    until(yard.talk.ready(order).exists)
    yard.talk.say(do="signal", id=order, signal=15, grace_s=10.0)
    assert yard.ended()["signal"] == 15
    assert Path(out).read_text() == "saved\n"


def test_the_deaf_and_their_daemons_are_killed_after_the_grace(yard: Yard) -> None:
    order, _pid = yard.started("daemons", "stay")
    yard.talk.say(do="signal", id=order, signal=15, grace_s=0.2)
    assert yard.ended()["signal"] in {signal.SIGTERM, signal.SIGKILL}
    order, _pid = yard.started("deaf")
    yard.talk.say(do="signal", id=order, signal=15, grace_s=0.2)
    exited = yard.ended()
    assert (exited["exit_code"], exited["signal"]) == (None, signal.SIGKILL)
    yard.talk.no_payload_left()


def test_a_flood_is_cut_and_keeps_its_end(yard: Yard) -> None:
    out, err = yard.folder / "out", yard.folder / "err"
    yard.deed("flood", "3000", stdout=str(out), stderr=str(err), output_cap=100_000)
    yard.granted()
    assert yard.ended()["cut"] == 3000 * 1024 + 15 - 100_000 - 65536
    assert out.read_bytes().endswith(b"the last words\n")
    assert out.stat().st_size < 100_000 + 65536 + 100
    assert err.read_bytes() == b""


@pytest.mark.parametrize("seed", range(12))
def test_whoever_is_killed_and_when_nothing_is_left(yard: Yard, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    names = chance.sample(["keeper", "init", "starter", "payload"], chance.choice([1, 1, 2, 3]))
    order = yard.deed(*chance.choice([("daemons", "stay"), ("deaf",), ("churn",)]))
    pid = yard.granted()["pid"]
    if seed % 2:
        until(lambda: yard.talk.ready(order).exists() or not state(pid))
    else:
        time.sleep(chance.random() * 0.05)  # the moment is what is drawn here
    try:
        init, keeper = inner(pid)
        victims = {"keeper": keeper, "init": init, "starter": yard.talk.starter.pid, "payload": pid}
        for name in names:
            os.kill(victims[name], signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        assert len(names) > 1 or not state(pid)
    yard.talk.no_payload_left()
    if "starter" not in names:
        exited = yard.ended()
        assert exited["event"] == "exited"
        assert exited["exit_code"] is None
        assert yard.talk.finish()[0] == 0
    else:
        yard.talk.link.close()
    yard.talk.nothing_left()


@pytest.mark.parametrize("seed", range(6))
def test_a_kill_before_the_program_runs_leaves_nothing(yard: Yard, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    yard.talk.hear("snapshot")
    known = set(marked(yard.talk.mark))
    yard.deed("deaf")
    until(lambda: set(marked(yard.talk.mark)) - known)
    time.sleep(chance.random() * 0.03)  # the moment is what is drawn here
    descendants.send(chance.choice(sorted(set(marked(yard.talk.mark)) - known)), signal.SIGKILL)
    yard.talk.link.close()
    yard.talk.nothing_left()


@pytest.mark.parametrize("deed", ["deaf", "daemons stay", "churn"])
def test_the_kernel_ends_all_when_nobody_of_us_is_left_to(yard: Yard, deed: str) -> None:
    _order, pid = yard.started(*deed.split())
    _init, keeper = inner(pid)
    yard.talk.starter.send_signal(signal.SIGSTOP)
    for victim in (keeper, yard.talk.starter.pid):
        os.kill(victim, signal.SIGKILL)
    yard.talk.no_payload_left()
    yard.talk.link.close()
    yard.talk.nothing_left()


def test_a_killed_init_is_told(yard: Yard) -> None:
    _order, pid = yard.started("daemons", "stay")
    os.kill(inner(pid)[0], signal.SIGKILL)
    exited = yard.ended()
    assert (exited["signal"], exited["note"]) == (signal.SIGKILL, "its init ended before it")
    yard.talk.no_payload_left()


@pytest.mark.parametrize(
    ("more", "errno", "what"),
    [
        ({"argv": ["/no/such/program"]}, "ENOENT", "start /no/such/program"),
        ({"argv": []}, "EINVAL", "empty argv"),
        ({"cwd": "/no/such/folder"}, "ENOENT", "enter the folder /no/such/folder"),
        ({"cpus": "100000"}, "EINVAL", "bind to the CPUs 100000"),
    ],
)
def test_what_cannot_be_started_fails_as_anywhere(yard: Yard, more: dict, errno: str, what: str) -> None:
    yard.talk.spawn(**{"argv": ["true"], "pid_namespace": True, **more})
    failed = yard.ended()
    assert (failed["event"], failed["errno"]) == ("failed", errno)
    assert what in failed["what"]
    assert yard.talk.finish()[0] == 0
    yard.talk.nothing_left()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else: run the tests as root")
@pytest.mark.parametrize("pid_namespace", [True, False])
def test_a_folder_closed_to_the_user_is_a_clear_failure(folder: Path, pid_namespace: bool) -> None:  # noqa: FBT001
    yard = Yard("me", folder)
    (folder / "closed").mkdir(mode=0o700)
    user = {"uid": NOBODY, "gid": NOBODY, "groups": []}
    closed = str(folder / "closed")
    yard.talk.spawn(["true"], user=user, cwd=closed, pid_namespace=pid_namespace)
    failed = yard.ended()
    assert (failed["event"], failed["errno"]) == ("failed", "EACCES")
    assert failed["what"] == f"enter the folder {closed}"
    yard.talk.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else: run the tests as root")
def test_root_s_payload_is_the_user_it_is_told_and_sees_only_itself(folder: Path) -> None:
    yard = Yard("me", folder)
    yard.python = SYSTEM_PYTHON
    seen = yard.said("look", user={"uid": NOBODY, "gid": NOBODY, "groups": []})
    assert (seen["uid"], seen["caps"], seen["pids"]) == (f"{NOBODY} {NOBODY}", "0", "True")
    assert seen["reach"] == "False False"
    yard.talk.close()


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize(("how", "why"), [("limit", "unshare: No space left"), ("masked", "mount: Operation not")])
def test_where_the_kernel_refuses_a_payload_starts_without(folder: Path, who: str, how: str, why: str) -> None:
    yard = Yard(who, folder, how)
    order = yard.deed("daemons", "stay", stdout=str(folder / "out"))
    started = yard.talk.hear("started", "failed")
    assert (started["pid_namespace"], started["why"][: len(why)]) == (False, why)
    yard.talk.done(order)
    # no session's leader here either, since that is why PanDA's pilot asks for it
    assert os.getsid(started["pid"]) != started["pid"]
    yard.talk.say(do="signal", id=order, signal=9, grace_s=0.0)
    exited = yard.ended()
    assert (exited["signal"], exited["contained"]) in {(9, "subreaper"), (9, "cgroup")}
    yard.talk.no_payload_left()
    yard.talk.close()


def test_who_does_not_ask_gets_none_and_no_reason(yard: Yard) -> None:
    yard.deed("stay", pid_namespace=False)
    started = yard.talk.hear("started")
    assert (started["pid_namespace"], started["why"]) == (False, None)
    assert set(started) == {"event", *wire.EVENTS["started"]}


def test_it_works_under_every_python(tmp_path: Path, python: str) -> None:
    talk = Talk(tmp_path, python=python)
    talk.spawn(["sh", "-c", "echo $$; exit 4"], stdout=str(tmp_path / "out"), pid_namespace=True)
    started = talk.hear("started")
    exited = talk.hear("exited")
    assert exited["exit_code"] == 4
    assert not started["pid_namespace"] or int((tmp_path / "out").read_text()) < 10
    assert talk.finish()[0] == 0
    talk.nothing_left()
    talk.close()


def test_a_namespace_that_is_neither_true_nor_false_is_refused(talk: Talk) -> None:
    talk.spawn(["true"], pid_namespace="yes")
    assert talk.end()[0] == 3
