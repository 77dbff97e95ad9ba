"""The rank shim: what a launcher starts once per rank."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from rank import BAD_CHILD, Shim, shim
from talk import marked, until

__all__ = ["shim"]


def test_it_runs_under_every_python(shim: Shim, python: str) -> None:
    cpu = max(os.sched_getaffinity(0))
    shim.order["bindings"] = [
        {"local_rank": 0, "cpus": None, "env": {"DEVICE": "0"}},
        {"local_rank": 1, "cpus": str(cpu), "env": {"DEVICE": "1"}},
    ]
    says = "echo $DEVICE $PILOTWRAP_RANK $PILOTWRAP_LOCAL_RANK $PILOTWRAP_SIZE $A_TOKEN"
    shim.order["argv"] = ["sh", "-c", says + "; grep Cpus_allowed_list /proc/self/status"]
    code, out, err = shim.run(python)
    assert (code, err) == (0, "")
    assert out.split() == ["1", "5", "1", "8", "Cpus_allowed_list:", str(cpu)]
    assert not (shim.folder / "rank-5.json").exists()


def test_it_stays_in_the_launchers_session_and_group(shim: Shim) -> None:
    shim.order["argv"] = ["sh", "-c", "cut -d' ' -f5,6 /proc/self/stat"]
    started = shim.start()
    out, _ = started.communicate(timeout=30)
    assert out.split() == [str(started.pid), str(started.pid)]  # which the test made the session's leader


def test_its_exit_code_is_the_payloads(shim: Shim) -> None:
    shim.order["argv"] = ["sh", "-c", "exit 7"]
    assert shim.run()[0] == 7
    assert (shim.result()["exit_code"], shim.result()["reason"]) == (7, None)


def test_a_signal_is_told_as_a_shell_does(shim: Shim) -> None:
    shim.order["argv"] = [*BAD_CHILD, "die", "9"]
    assert shim.run()[0] == 137
    assert (shim.result()["exit_code"], shim.result()["signal"]) == (None, 9)


def test_a_program_that_is_missing_is_said(shim: Shim) -> None:
    shim.order["argv"] = ["/no/such/program"]
    code, _out, err = shim.run()
    assert code == 127
    assert "cannot start /no/such/program: No such file" in err
    assert "/no/such/program" in str(shim.result()["detail"])


def test_a_promised_cpu_that_is_not_granted_is_a_mismatch(shim: Shim) -> None:
    cpu = max(os.sched_getaffinity(0))
    for cpus in (f"{cpu},4000", "4000"):
        shim.order["bindings"] = [{"local_rank": 1, "cpus": cpus, "env": {}}]
        code, _out, err = shim.run()
        assert code == 121
        assert f"promised the CPUs {cpus}, got" in err
        assert shim.result()["reason"] == "binding"


def test_a_rank_without_binding_is_a_mismatch(shim: Shim) -> None:
    shim.order["bindings"] = [{"local_rank": 0, "cpus": None, "env": {}}]
    assert shim.run()[0] == 121


@pytest.mark.parametrize("missing", ["R", "L"])
def test_a_rank_that_the_launcher_did_not_number_is_refused(shim: Shim, missing: str) -> None:
    del shim.variables[missing]
    code, _out, err = shim.run()
    assert code == 122
    assert "none of" in err
    (result,) = shim.folder.glob("rank-*.json")
    assert json.loads(result.read_text())["reason"] == "launcher"


@pytest.mark.parametrize("order", [{"protocol": 2}, {"argv": "x"}, {"bindings": 3}, {"grace_s": "long"}])
def test_an_order_that_it_does_not_understand_is_refused(shim: Shim, order: dict[str, object]) -> None:
    shim.order.update(order)
    code, _out, err = shim.run()
    assert code == 122
    assert "shim.json" in err


def test_what_the_leader_leaves_is_ended(shim: Shim) -> None:
    shim.order["argv"] = [*BAD_CHILD, "daemon", "3"]
    assert shim.run()[0] == 3
    assert shim.result()["left"] == 1
    shim.nothing_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_all_even_the_deaf(shim: Shim, number: int) -> None:
    shim.order["argv"] = [*BAD_CHILD, "daemon_and_stay"]
    started = shim.start()
    until(shim.ready.exists)
    started.send_signal(number)
    started.communicate(timeout=30)
    assert started.returncode == 137
    assert shim.result()["ended_by"] == f"ended by signal {number}"
    shim.nothing_left()


def test_the_end_of_a_lifeline_that_beat_ends_all(shim: Shim) -> None:
    shim.order["argv"] = [*BAD_CHILD, "daemon_and_stay"]
    started = shim.start(stdin=subprocess.PIPE)
    assert started.stdin is not None
    started.stdin.write(".")
    started.stdin.flush()
    until(shim.ready.exists)
    started.stdin.close()
    assert started.wait(timeout=30) == 137
    assert shim.result()["ended_by"] == "the head is gone"
    shim.nothing_left()
    started.stdin = None
    started.communicate(timeout=30)


def test_an_input_that_never_beat_is_no_lifeline(shim: Shim) -> None:
    shim.order["argv"] = ["sh", "-c", "sleep 0.3; exit 4"]
    started = shim.start(stdin=subprocess.PIPE)
    assert started.stdin is not None
    started.stdin.close()  # as srun does for every rank when its own input is /dev/null
    assert started.wait(timeout=30) == 4
    started.stdin = None
    started.communicate(timeout=30)


def test_two_ranks_of_a_node_do_not_end_each_other(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    first, second = (Shim(folder) for folder in folders)
    first.order["argv"] = [*BAD_CHILD, "obey_term"]
    staying = first.start()
    until(first.ready.exists)
    second.order["argv"] = [*BAD_CHILD, "daemon"]
    second.run()
    assert staying.poll() is None
    assert marked(first.mark)
    staying.terminate()
    staying.communicate(timeout=30)
    assert staying.returncode == 5
