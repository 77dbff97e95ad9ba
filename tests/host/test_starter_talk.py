"""What the starter does when its controller asks."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from talk import Talk, until

from pilotwrap.host import __main__ as host_main
from pilotwrap.host import wire


def ended(talk: Talk) -> dict:
    return talk.hear("exited", "failed")


def shown(talk: Talk, tmp_path: Path, **more: object) -> dict[str, str]:
    talk.deed("show", stdout=str(tmp_path / "out"), **more)
    assert ended(talk)["exit_code"] == 0
    return dict(line.split(" ", 1) for line in (tmp_path / "out").read_text().splitlines())


def test_hello_comes_first_and_the_snapshot_without_asking(tmp_path: Path) -> None:
    talk = Talk(tmp_path, "--spec", "a b", "-n", "2")
    hello = talk.hear()
    assert set(hello) == {"event", *wire.EVENTS["hello"]}
    assert hello["protocol"] == 1
    assert hello["words"] == ["--spec", "a b", "-n", "2"]
    assert hello["self"][1:3] == ["-I", "-S"]
    assert Path(hello["self"][3]).name == "__main__.py"
    snapshot = talk.hear("snapshot")["snapshot"]
    assert set(snapshot) == set(wire.SNAPSHOT)
    assert talk.finish(7, "one line\n")[:2] == (7, "one line\n")
    talk.close()


def test_it_serves_under_every_python(tmp_path: Path, python: str) -> None:
    talk = Talk(tmp_path, python=python)
    talk.hear("snapshot")
    talk.spawn(["sh", "-c", "echo out; echo err >&2; exit 3"], stdout=str(tmp_path / "o"), stderr=str(tmp_path / "e"))
    exited = ended(talk)
    assert set(exited) == {"event", *wire.EVENTS["exited"]}
    assert set(exited["usage"]) == set(wire.USAGE)
    assert exited["exit_code"] == 3
    assert exited["signal"] is None
    assert ((tmp_path / "o").read_text(), (tmp_path / "e").read_text()) == ("out\n", "err\n")
    daemon = talk.deed("daemon")
    talk.done(daemon)
    assert ended(talk)["left"] == 1
    assert talk.finish()[0] == 0
    talk.nothing_left()
    talk.close()


def test_one_path_for_both_outputs_is_one_file(talk: Talk, tmp_path: Path) -> None:
    both = str(tmp_path / "both")
    talk.spawn(["sh", "-c", "echo 1; echo 2 >&2; echo 3"], stdout=both, stderr=both)
    ended(talk)
    assert Path(both).read_text() == "1\n2\n3\n"
    assert Path(both).stat().st_mode & 0o777 == 0o600


def test_a_payload_is_in_a_session_of_its_own(talk: Talk, tmp_path: Path) -> None:
    seen = shown(talk, tmp_path)
    assert seen["leader"] == "True group True"
    assert seen["fds"] == "[0, 1, 2]"
    assert int(seen["ignored"], 16) & ~(1 << 12 | 1 << 24) == 0  # Python itself ignores SIGPIPE and SIGXFSZ


def test_a_child_session_has_the_payload_not_as_its_leader(talk: Talk, tmp_path: Path) -> None:
    assert shown(talk, tmp_path, session="child")["leader"] == "False group True"


def test_an_inherited_session_is_the_starters(talk: Talk, tmp_path: Path) -> None:
    talk.spawn(["sh", "-c", "cut -d' ' -f6 /proc/self/stat"], stdout=str(tmp_path / "out"), session="inherit")
    ended(talk)
    assert int((tmp_path / "out").read_text()) == os.getsid(talk.starter.pid)


def test_only_what_is_kept_or_set_reaches_a_payload(talk: Talk, tmp_path: Path) -> None:
    seen = shown(talk, tmp_path, keep=["PLAIN", "PA*", "*TOKEN", "A_*"], unset=["PATH"], env={"SET": "x"})
    names = set(seen["names"].split()) - {"LC_CTYPE", "MARK", "READY"}
    assert names == {"PLAIN", "SET"} | {name for name in os.environ if name.startswith("PA") and name != "PATH"}


def test_a_secret_is_not_kept_even_when_everything_is(talk: Talk, tmp_path: Path) -> None:
    names = shown(talk, tmp_path, keep=["*"])["names"].split()
    assert "PLAIN" in names
    assert "A_TOKEN" not in names


def test_cpus_and_folder_are_those_asked_for(talk: Talk, tmp_path: Path) -> None:
    cpu = max(os.sched_getaffinity(0))
    seen = shown(talk, tmp_path, cpus=str(cpu), cwd="/usr")
    assert (seen["cpus"], seen["cwd"]) == (f"[{cpu}]", "/usr")


@pytest.mark.parametrize(
    ("more", "errno", "what"),
    [
        ({"argv": ["/no/such/program"]}, "ENOENT", "start /no/such/program"),
        ({"argv": ["no-such-program"]}, "ENOENT", "start no-such-program"),
        ({"argv": ["/etc/passwd"]}, "EACCES", "start /etc/passwd"),
        ({"argv": []}, "EINVAL", "empty argv"),
        ({"argv": ["true", "a\0b"]}, "EINVAL", "start true"),
        ({"cwd": "/no/such/folder"}, "ENOENT", "enter the folder /no/such/folder"),
        ({"stdout": "/no/such/folder/out"}, "ENOENT", "open the output file"),
        ({"cpus": "100000"}, "EINVAL", "bind to the CPUs 100000"),
        ({"cpus": "x"}, "EINVAL", "bind to the CPUs x"),
    ],
)
def test_what_cannot_be_started_fails_with_its_errno(talk: Talk, more: dict, errno: str, what: str) -> None:
    talk.spawn(**{"argv": ["true"], **more})
    failed = ended(talk)
    assert failed["event"] == "failed"
    assert failed["errno"] == errno
    assert what in failed["what"]
    assert talk.finish()[0] == 0


def test_an_output_link_is_not_followed(talk: Talk, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    talk.spawn(["echo", "x"], stdout=str(tmp_path / "link"))
    assert ended(talk)["errno"] == "ELOOP"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else: run the tests as root")
def test_root_becomes_the_user_it_is_told(talk: Talk, tmp_path: Path) -> None:
    user = {"uid": 65534, "gid": 65533, "groups": [65532]}
    talk.spawn(["sh", "-c", "id -u; id -g; id -G"], stdout=str(tmp_path / "out"), user=user)
    assert ended(talk)["exit_code"] == 0
    assert (tmp_path / "out").read_text().split() == ["65534", "65533", "65533", "65532"]


def test_a_flood_is_cut_in_the_middle_and_keeps_its_end(talk: Talk, tmp_path: Path) -> None:
    talk.deed("flood", "3000", stdout=str(tmp_path / "out"), output_cap=100_000)
    exited = ended(talk)
    data = (tmp_path / "out").read_bytes()
    assert len(data) < 100_000 + 65536 + 100
    assert data.endswith(b"the last words\n")
    assert f"{exited['cut']} bytes of the output are left out here".encode() in data
    assert exited["cut"] == 3000 * 1024 + 15 - 100_000 - 65536


def test_output_within_the_bound_is_whole(talk: Talk, tmp_path: Path) -> None:
    talk.deed("nuls", "150", stdout=str(tmp_path / "out"), output_cap=100 * 1024)
    assert ended(talk)["cut"] == 0
    assert (tmp_path / "out").read_bytes() == b"\0" * 150 * 1024


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_neither_blocks_nor_kills_the_payload(talk: Talk) -> None:
    talk.deed("flood", "500", stdout="/dev/full")
    exited = ended(talk)
    assert exited["exit_code"] == 0
    assert exited["note"] == "No space left on device"
    assert exited["cut"] == 500 * 1024 + 15


def test_wall_time_ends_even_the_deaf(talk: Talk) -> None:
    talk.deed("ignore_term", wall_s=0.5, grace_s=0.2)
    exited = ended(talk)
    assert exited["timed_out"] is True
    assert exited["signal"] == signal.SIGKILL
    assert 0.7 <= exited["usage"]["wall_s"] < 5


def test_a_payload_that_obeys_has_its_grace(talk: Talk) -> None:
    order = talk.deed("obey_term")
    talk.done(order)
    talk.say(do="signal", id=order, signal=15, grace_s=10.0)
    exited = ended(talk)
    assert (exited["exit_code"], exited["timed_out"]) == (5, False)


def test_a_payload_that_dies_by_a_signal_says_which(talk: Talk) -> None:
    talk.deed("die", "6")
    exited = ended(talk)
    assert (exited["exit_code"], exited["signal"]) == (None, 6)


def test_the_lifeline_beats_and_is_closed_before_any_term(talk: Talk, tmp_path: Path) -> None:
    order = talk.deed("watch_input", stdin="lifeline", stdout=str(tmp_path / "out"))
    talk.done(order)
    talk.say(do="signal", id=order, signal=15, grace_s=20.0)
    assert ended(talk)["exit_code"] == 9  # it saw the end of its input; TERM would have killed it
    assert (tmp_path / "out").read_text() == "beats True\n"


def test_messages_of_a_mebibyte_pass_both_ways(talk: Talk) -> None:
    talk.spawn(["true"], env={"BIG": "x" * 100_000})
    assert ended(talk)["exit_code"] == 0
    talk.say(do="spawn", id="y" * (1 << 20), argv=["/no/such"], note="z" * (1 << 20))
    failed = ended(talk)
    assert (failed["event"], len(failed["id"]) > 0) == ("failed", True)


def test_hundreds_at_once_all_end(talk: Talk) -> None:
    talk.hear("snapshot")
    begun = time.monotonic()
    orders = {talk.spawn(["true"]) for _ in range(300)}
    assert {ended(talk)["id"] for _ in orders} == orders
    # a guard against a quadratic mistake, not the benchmark: alone it takes under a second
    assert time.monotonic() - begun < 20


def test_observe_answers_with_its_id(talk: Talk) -> None:
    talk.say(do="observe", id="again")
    observed = talk.hear("observed")
    assert observed["id"] == "again"
    assert observed["snapshot"]["schema"] == "pilotwrap.snapshot/1"


def test_an_unknown_order_names_the_way_to_refresh(talk: Talk) -> None:
    talk.say(do="levitate", version="9.9")
    code, _out, err = talk.end()
    assert code == 3
    assert "(version 9.9) do not understand each other; refresh it: RUNTIME exec IMAGE pilotwrap starter" in err


@pytest.mark.parametrize(
    "line", [b"{]\n", b'{"do":"spawn","id":1,"argv":7}\n', b'{"do":"spawn","argv":["a"],"session":"x"}\n']
)
def test_nonsense_ends_it_and_what_runs(talk: Talk, line: bytes) -> None:
    order = talk.deed("ignore_term")
    talk.done(order)
    talk.link.sendall(line)
    assert talk.end()[0] == 3
    talk.nothing_left()


def test_finish_ends_what_still_runs(talk: Talk) -> None:
    order = talk.deed("daemon_and_stay")
    talk.done(order)
    assert talk.finish(4)[0] == 4
    talk.nothing_left()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 124), (signal.SIGXCPU, 124)])
def test_a_signal_is_passed_on_and_the_grace_bounds_the_rest(talk: Talk, number: int, code: int) -> None:
    order = talk.deed("ignore_term")
    talk.done(order)
    talk.say(do="grace", seconds=0.3)
    talk.starter.send_signal(number)
    assert talk.hear("stop") == {"event": "stop", "signal": number}
    talk.starter.send_signal(number)
    assert talk.end()[0] == code
    talk.nothing_left()


def test_after_a_signal_the_controller_still_decides(talk: Talk) -> None:
    talk.starter.send_signal(signal.SIGTERM)
    talk.hear("stop")
    talk.spawn(["true"])
    assert ended(talk)["exit_code"] == 0
    assert talk.finish(1)[0] == 1


def test_a_second_interrupt_ends_at_once(talk: Talk) -> None:
    order = talk.deed("ignore_term")
    talk.done(order)
    talk.starter.send_signal(signal.SIGINT)
    talk.hear("stop")
    begun = time.monotonic()
    talk.starter.send_signal(signal.SIGINT)
    assert talk.end()[0] == 130
    assert time.monotonic() - begun < 5
    talk.nothing_left()


def test_a_way_in_that_does_not_exist_is_said(tmp_path: Path) -> None:
    by_hand = "ended with exit code 1 before its first word; try the way into the image by hand: false"
    for words, exit_code, text in (
        ([], 2, "--enter"),
        (["--enter", ""], 2, "no words follow it"),
        (["--enter", "'open"], 2, "a quote is not closed"),
        (["--enter=/no/such/runtime exec x"], 3, "/no/such/runtime"),
        (["--enter", "false"], 3, by_hand),
    ):
        argv = [sys.executable, "-I", "-S", host_main.__file__, "run", *words]
        ran = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert ran.returncode == exit_code, ran.stderr
        assert text in ran.stderr
        assert ran.stderr.count("\n") == 1


def test_the_words_of_all_messages_stand_in_the_wire_table(talk: Talk) -> None:
    talk.spawn(["true"])
    talk.spawn(["/no/such"])
    for _ in range(6):
        message = talk.hear()
        assert set(message) == {"event", *wire.EVENTS[message["event"]]}, json.dumps(message)[:300]
        if message["event"] == "snapshot":
            break


def test_a_payload_that_closed_its_outputs_costs_its_keeper_nothing(talk: Talk, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    files = {"stdout": str(tmp_path / "out"), "stderr": str(tmp_path / "err")}
    talk.spawn(["sh", "-c", "exec >&- 2>&-; sleep 2"], **files)
    assert ended(talk)["exit_code"] == 0
    assert talk.finish()[0] == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_the_grace_is_also_for_whom_a_shell_waited(talk: Talk, tmp_path: Path) -> None:
    saves = "trap 'sleep 0.3; echo saved; exit' TERM; touch $READY; sleep 60 & wait"
    order = talk.spawn(["sh", "-c", 'sh -c "$1"; true', "sh", saves], stdout=str(tmp_path / "out"))
    until(talk.ready(order).exists)
    talk.say(do="signal", id=order, signal=15, grace_s=10.0)
    assert ended(talk)["signal"] == 15
    assert (tmp_path / "out").read_text() == "saved\n"
