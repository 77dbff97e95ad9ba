"""How a rank's end reaches its launcher, where its words go, and that no file of its makes a traceback."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rank import BAD_CHILD, Shim, shim
from talk import until

from pilotwrap.host import __main__ as host_main
from pilotwrap.host import shim as program
from pilotwrap.host import wire

__all__ = ["shim"]


@pytest.mark.parametrize("payload", [["sh", "-c", "exit 3"], ["/no/such/program"], [*BAD_CHILD, "die", "15"]])
def test_a_bad_end_is_a_signal_s_where_the_launcher_heeds_no_code_and_the_code_is_told(
    shim: Shim, payload: list[str]
) -> None:
    shim.order.update(fail_by="signal", argv=payload)
    code, _out, _err = shim.run()
    assert code == -signal.SIGKILL
    expected = {"sh": (3, None), "/no/such/program": (127, None)}.get(payload[0], (None, 15))
    assert (shim.result()["exit_code"], shim.result()["signal"]) == expected


def test_a_good_end_is_no_signal(shim: Shim) -> None:
    shim.order["fail_by"] = "signal"
    assert shim.run()[0] == 0


def test_a_rank_that_may_not_run_is_a_signal_s_too(shim: Shim) -> None:
    shim.order.update(fail_by="signal", bindings=[{"local_rank": 0}])
    code, _out, err = shim.run()
    assert code == -signal.SIGKILL
    assert "the plan has no binding for it" in err
    assert shim.result()["exit_code"] == 121


def test_a_payload_dies_with_a_shim_that_was_killed(shim: Shim) -> None:
    shim.order["argv"] = [*BAD_CHILD, "obey_term"]
    started = shim.start()
    until(shim.ready.exists)
    started.kill()
    started.communicate(timeout=30)
    shim.nothing_left()


@pytest.mark.parametrize(("number", "marks"), [("0", True), ("5", False)])
def test_rank_0_leaves_a_mark_when_it_begins_and_no_other_one(shim: Shim, number: str, marks: bool) -> None:  # noqa: FBT001
    shim.order["begun"] = str(shim.folder / "begun")
    shim.variables["R"] = number
    assert shim.run()[0] == 0
    assert (shim.folder / "begun").exists() == marks


class TestOutput:
    def test_a_rank_writes_to_files_of_its_own_and_nothing_to_the_launcher(self, shim: Shim, python: str) -> None:
        shim.order.update(output=str(shim.folder), argv=["sh", "-c", "echo out; echo err >&2; exit 3"])
        assert shim.run(python) == (3, "", "")
        assert (shim.folder / "5.out").read_text() == "out\n"
        assert (shim.folder / "5.err").read_text() == "err\n"

    def test_its_files_are_bounded_and_end_with_the_end(self, shim: Shim) -> None:
        shim.order.update(output=str(shim.folder), output_cap=1000)
        shim.order["argv"] = ["sh", "-c", "head -c 3000000 /dev/zero; echo the end; head -c 3000000 /dev/zero >&2"]
        assert shim.run() == (0, "", "")
        for name in ("5.out", "5.err"):
            written = (shim.folder / name).read_bytes()
            assert written.startswith(b"\0" * 1000 + b"\n[pilotwrap: ")
            assert len(written) < 1000 + 65536 + 100
        assert (shim.folder / "5.out").read_bytes().endswith(b"the end\n")

    def test_all_that_it_wrote_is_there_when_what_it_left_is_ended(self, shim: Shim) -> None:
        shim.order.update(output=str(shim.folder), argv=["sh", "-c", "sleep 300 & echo before"])
        assert shim.run()[0] == 0
        assert (shim.folder / "5.out").read_text() == "before\n"

    def test_a_file_that_cannot_be_written_is_said_before_the_payload_runs(self, shim: Shim) -> None:
        shim.order.update(output=str(shim.folder / "missing"), argv=["touch", str(shim.ready)])
        code, _out, err = shim.run()
        assert (code, shim.ready.exists()) == (122, False)
        assert "cannot write" in err
        assert (shim.result()["reason"], shim.result()["exit_code"]) == ("environment", 122)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("\0") | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
GOOD: dict[str, object] = {
    "protocol": 1,
    "rank": ["FUZZ_RANK"],
    "local_rank": ["FUZZ_RANK"],
    "argv": ["true"],
    "grace_s": 1,
    "bindings": [{"local_rank": 0, "cpus": None, "env": {}, "devices": [], "counted": []}],
}


@st.composite
def files(draw: st.DrawFn) -> dict[str, object]:
    """Draw a file that is good but for one key of its, or of its binding's; `rank` says nothing, so nothing runs."""
    order: dict[str, object] = json.loads(json.dumps(GOOD))
    binding = {"local_rank": 0, "cpus": None, "env": {}, "devices": [], "counted": []}
    if draw(st.booleans()):
        order[draw(st.sampled_from(wire.SHIM))] = draw(ANY)
    else:
        order["bindings"] = [{**binding, draw(st.sampled_from(wire.BINDING)): draw(ANY)}]
    return order


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=files())
def test_no_file_makes_a_traceback(
    order: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, which has no rank: a good file ends with 122 as well, before anything is bound or started."""
    path = tmp_path / "fuzzed.json"
    path.write_text(json.dumps(order))
    assert program.main(str(path)) == 122
    said = capsys.readouterr().err
    # a second line where the folder for results, which was drawn, cannot be written
    assert 1 <= said.count("\n") <= 2, said
    assert all(line.startswith("pilotwrap shim: ") for line in said.splitlines()), said


@pytest.mark.parametrize(
    "binding",
    [
        {"cpus": 3},
        {"cpus": "x"},
        {"cpus": "0-99999999999"},
        {"env": []},
        {"env": {"A": 1}},
        {"devices": "0"},
        {"devices": ["a\0"]},
        {"counted": [1]},
        {"local_rank": "1"},
        {"local_rank": None},
        {"env": {"a\r\nb": None}},
    ],
)
def test_a_binding_of_a_wrong_type_is_one_line_and_122(shim: Shim, binding: dict[str, object]) -> None:
    shim.order["bindings"] = [{"local_rank": 1, "cpus": None, "env": {}, **binding}]
    code, out, err = shim.run()
    assert (code, out) == (122, "")
    assert err.startswith("pilotwrap shim: cannot use ")
    assert err.count("\n") == 1, err


def test_a_file_of_no_json_at_all_is_one_line_and_122(shim: Shim) -> None:
    for text in (b"", b"[", b"[]", b"\xff", b"[" * 100_000, b'{"protocol": 1e999}', b"9" * 5000):
        path = shim.folder / "garbled.json"
        path.write_bytes(text)
        argv = [sys.executable, "-I", "-S", host_main.__file__, "shim", str(path)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 122, done
        assert done.stderr.count("\n") == 1, done
