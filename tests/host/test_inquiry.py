"""The image's probe as `observe --probe` starts it on a node: what counts as its answer, and how it is ended."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from detect.systree import SysTree

from pilotwrap.host import __main__ as host_main
from pilotwrap.host.inquiry import understood

SAID = {"probe": "nvml", "exit": 0, "timed_out": False, "records": [{"kind": "end", "devices": 4}], "detail": ""}
LINE = json.dumps(SAID)
MARK = "PROBE_OF"
"""Its value marks all that a test starts."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A node with one NVIDIA device."""
    SysTree(tmp_path / "root").nvidia("0000:c1:00.0", 0)
    return tmp_path / "root"


def observed(root: Path, script: str, python: str = sys.executable, *, seconds: float = 30.0, cwd: str = "") -> dict:
    return ordered(root, ["sh", "-c", script], python, seconds=seconds, cwd=cwd)


def ordered(root: Path, argv: list[str], python: str = sys.executable, *, seconds: float = 30.0, cwd: str = "") -> dict:
    """Observe a node and return its snapshot; nothing of the probe is left."""
    order = root.with_name("order.json")
    order.write_text(json.dumps({"argv": argv, "cwd": cwd, "seconds": seconds}))
    words = ["observe", "--sysroot", str(root), "--probe", str(order)]
    environment = {"PATH": os.environ["PATH"], MARK: str(root)}
    argv = [python, "-I", "-S", host_main.__file__, *words]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment, timeout=60)
    assert living(str(root)) == []
    return json.loads(said.stdout)


def living(mark: str) -> list[str]:
    """Return the processes that have the mark and are more than a zombie."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}\0".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text())
        except OSError:  # noqa: PERF203 - each may end while we look
            continue
    return found


def refusal(snapshot: dict) -> tuple[str, str]:
    """Return the reason and the words of a probe that was not entered."""
    ((probe,),) = [snapshot["probes"]]
    ((record,),) = [probe["records"]]
    assert (record["kind"], record["entered"], record["detail"]) == ("error", False, probe["detail"])
    return record["reason"], record["detail"]


def test_its_answer_is_in_the_snapshot_under_every_python(root: Path, python: str) -> None:
    assert observed(root, f"echo '{LINE}'", python)["probes"] == [SAID]


def test_what_a_way_into_an_image_prints_besides_is_no_answer(root: Path) -> None:
    noise = 'echo INFO: entering; echo \'{"probe": "nvml"}\'; echo warning >&2'
    assert observed(root, f"{noise}; printf '%s\\n' '{LINE}'; echo bye")["probes"] == [SAID]


def test_a_node_without_nvidia_s_devices_starts_none(tmp_path: Path) -> None:
    root = tmp_path / "root"
    SysTree(root).device("0000:01:00.0", "1002:7408", driver="amdgpu")
    assert observed(root, f"touch {tmp_path}/started; echo '{LINE}'")["probes"] == []
    assert not (tmp_path / "started").exists()


def test_who_holds_the_pipe_after_the_answer_is_not_waited_for_and_not_left(root: Path) -> None:
    begun = time.monotonic()
    assert observed(root, f"setsid sleep 600 & echo '{LINE}'; sleep 601")["probes"] == [SAID]
    assert time.monotonic() - begun < 20


def test_one_that_hangs_is_ended_in_time_with_all_that_it_started(root: Path) -> None:
    begun = time.monotonic()
    said = observed(root, "trap '' TERM; echo entering; setsid sleep 600 & sleep 601", seconds=1.0)
    assert 1.0 <= time.monotonic() - begun < 10
    assert refusal(said) == ("timeout", "the probe did not answer in time: entering")
    assert said["probes"][0]["timed_out"] is True


@pytest.mark.parametrize(
    ("argv", "reason", "words"),
    [
        (["/no/such/runtime", "exec"], "unknown", "the probe cannot be started, ENOENT"),
        (["sh", "-c", "echo 'no image' >&2; exit 255"], "unknown", "ended without an answer, exit code 255: no image"),
        (["sh", "-c", "kill -SEGV $$"], "crash", "was ended by signal 11 before it answered"),
        (["true"], "unknown", "the probe ended without an answer, exit code 0"),
    ],
)
def test_one_that_cannot_be_entered_is_told_with_the_reason(
    root: Path, argv: list[str], reason: str, words: str
) -> None:
    found, detail = refusal(ordered(root, argv))
    assert found == reason
    assert words in detail


def test_it_stands_where_the_caller_stood_if_that_is_there(root: Path) -> None:
    line = json.dumps({**SAID, "detail": "HERE"}).replace("HERE", "'$PWD'")
    assert observed(root, f"echo '{line}'", cwd=str(root))["probes"][0]["detail"] == str(root)
    assert observed(root, f"echo '{line}'", cwd=str(root / "gone"))["probes"][0]["detail"] == str(Path.cwd())


BAD = {
    "another probe": {"probe": "rocm"},
    "no records": {"records": "none"},
    "a record that is none": {"records": [1]},
    "nested": {"records": [{"kind": ["end"]}]},
    "a number that JSON has not": {"records": [{"kind": "end", "devices": float("nan")}]},
    "no detail": {"detail": None},
    "no word": {"timed_out": "no"},
}


@pytest.mark.parametrize("what", BAD)
def test_an_answer_of_another_form_is_none(what: str) -> None:
    assert understood(json.dumps({**SAID, **BAD[what]}).encode()) is None


def test_an_answer_is_taken_whatever_its_text_and_its_further_keys() -> None:
    line = json.dumps({**SAID, "detail": "half \ud800", "records": [{"kind": "error", "detail": "\udfff"}], "more": 1})
    assert understood(line.encode()) == {**SAID, "detail": "half ?", "records": [{"kind": "error", "detail": "?"}]}
    assert understood(line.encode()[:-1]) is None
