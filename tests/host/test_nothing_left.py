"""Whoever is killed, nothing is left alive."""

import os
import signal
from pathlib import Path

import pytest
from talk import Talk, marked, parent_of, until

from pilotwrap.host import cgroup

DEEDS = ("ignore_term", "daemon_and_stay", "forks")


def begun(talk: Talk, deed: str, **more: object) -> int:
    order = talk.deed(deed, **more)
    return talk.done(order)


@pytest.mark.parametrize("deed", DEEDS)
def test_kill_of_the_starter_leaves_nothing(talk: Talk, deed: str) -> None:
    begun(talk, deed)
    os.kill(talk.starter.pid, signal.SIGKILL)
    # the relay, which plays the controller, sees the end of its input and stops as a controller does
    with pytest.raises(EOFError):
        talk.hear("the end")
    talk.link.close()
    talk.nothing_left()


@pytest.mark.parametrize("deed", DEEDS)
def test_kill_of_the_controller_leaves_nothing_and_says_what_to_do(talk: Talk, deed: str) -> None:
    begun(talk, deed)
    talk.say(do="observe", id=1)
    talk.hear("observed")
    os.kill(talk.controller, signal.SIGKILL)
    code, _out, err = talk.end()
    assert code == 70
    assert "died by signal 9" in err
    assert "pilotwrap flush" in err
    talk.nothing_left()


def test_kill_of_a_keeper_is_told_and_leaves_nothing(talk: Talk) -> None:
    other = talk.deed("ignore_term")
    talk.done(other)
    order = talk.deed("kill_keeper")
    exited = talk.hear("exited")
    assert (exited["id"], exited["signal"], exited["note"]) == (order, 9, "its keeper ended before it")
    until(lambda: len([pid for pid in marked(talk.mark + "-payload") if "ready-2" in environ(pid)]) == 0)
    assert marked(talk.mark + "-payload"), "the other payload lives on"
    talk.finish()
    talk.nothing_left()


def environ(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_kill_of_starter_and_many_keepers_payloads(talk: Talk) -> None:
    orders = [talk.deed("ignore_term") for _ in range(12)]
    for order in orders:
        talk.done(order)
    os.kill(talk.starter.pid, signal.SIGKILL)
    talk.link.close()
    talk.nothing_left()


@pytest.mark.parametrize("deed", ["daemon", "forks"])
def test_what_a_payload_leaves_behind_is_ended_and_counted(talk: Talk, deed: str) -> None:
    order = talk.deed(deed)
    talk.done(order)
    exited = talk.hear("exited")
    assert exited["exit_code"] == 0
    assert exited["left"] >= 1
    assert exited["contained"] in {"cgroup", "subreaper"}
    talk.no_payload_left()


def test_a_grandchild_that_holds_the_pipe_delays_nothing(talk: Talk, tmp_path: Path) -> None:
    order = talk.deed("daemon", "6", stdout=str(tmp_path / "out"))
    talk.done(order)
    exited = talk.hear("exited")
    assert exited["exit_code"] == 6
    assert exited["usage"]["wall_s"] < 10


def test_a_deaf_payload_is_killed_after_its_grace(talk: Talk) -> None:
    order = talk.deed("daemon_and_stay")
    talk.done(order)
    talk.say(do="signal", id=order, signal=15, grace_s=0.2)
    assert talk.hear("exited")["signal"] == signal.SIGKILL
    talk.no_payload_left()


def test_the_keeper_stands_between(talk: Talk) -> None:
    order = talk.deed("ignore_term")
    pid = talk.done(order)
    assert parent_of(parent_of(pid)) == talk.starter.pid


def test_no_cgroup_is_left(talk: Talk) -> None:
    order = talk.deed("ignore_term")
    keeper = parent_of(talk.done(order))
    talk.say(do="signal", id=order, signal=9, grace_s=0.0)
    talk.hear("exited")
    assert not Path(cgroup.parent() or "/nowhere", f"pilotwrap-{keeper}").exists()


def test_the_cgroup_of_a_killed_keeper_is_removed(talk: Talk) -> None:
    order = talk.deed("ignore_term")
    keeper = parent_of(talk.done(order))
    os.kill(keeper, signal.SIGKILL)
    talk.hear("exited")
    assert not Path(cgroup.parent() or "/nowhere", f"pilotwrap-{keeper}").exists()
    talk.no_payload_left()
