from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pilotwrap.cli import flush as verb
from pilotwrap.model.errors import BadInputError
from pilotwrap.panda.client import Api, PandaClient
from pilotwrap.panda.flush import Errand, FlushResult, Reporter, flush, run_dirs
from pilotwrap.panda.https import HttpsTransport
from pilotwrap.panda.retry import Patience
from pilotwrap.panda.spool import Record, Spool, fold, read_spool

from .scripted_server import ScriptedServer, command, no, ok, says, told
from .test_panda_spool import accepted, acquired, terminal

if TYPE_CHECKING:
    from pathlib import Path

    from pilotwrap.model.credential import Credential

    from .conftest import HandClock


@pytest.fixture
def errand(credential: Credential, clock: HandClock) -> Errand:
    patience = Patience(clock=clock.read, sleep=clock.sleep)

    def client_of(server: str, given: Credential, ca_path: str | None, _api: Api) -> PandaClient:
        return PandaClient(HttpsTransport(server, given, ca_path=ca_path), patience)

    return Errand(client_of, now=500.0, deadline=clock.now + 5, credential=credential)


def dead_run(parent: Path, name: str, *records: Record) -> Path:
    run_dir = parent / name[:2] / name
    spool = Spool(run_dir)
    spool.append(records)
    spool.close()
    return run_dir


def left_in(run_dir: Path) -> list[int]:
    return [key[0] for key, entry in fold(read_spool(run_dir).records).items() if not entry.accepted]


def test_a_report_that_was_not_sent_is_sent_and_settled(server: ScriptedServer, tmp_path: Path, errand: Errand) -> None:
    run = dead_run(tmp_path, "aa11", acquired(1, server=server.url), terminal(1))
    result = flush(tmp_path, errand)
    assert (result.runs, result.told, result.orphans, result.exit_code) == (1, 1, 0, 0)
    assert server.heard[0].arguments["job_status"] == "finished"
    assert left_in(run) == []


def test_a_second_flush_sends_nothing(server: ScriptedServer, tmp_path: Path, errand: Errand) -> None:
    dead_run(tmp_path, "aa11", acquired(1, server=server.url), terminal(1))
    flush(tmp_path, errand)
    again = flush(tmp_path, errand)
    assert (again.told, again.exit_code, len(server.heard)) == (0, 0, 1)


def test_a_job_without_a_last_word_is_told_failed(server: ScriptedServer, tmp_path: Path, errand: Errand) -> None:
    dead_run(tmp_path, "aa11", acquired(1, server=server.url))
    result = flush(tmp_path, errand)
    assert (result.told, result.orphans) == (1, 1)
    said = server.heard[0].arguments
    assert (said["job_status"], said["pilot_error_code"], said["batch_id"]) == ("failed", 1200, "4711")


def test_the_last_word_of_an_orphan_is_on_disk_before_it_is_sent(
    server: ScriptedServer, tmp_path: Path, errand: Errand
) -> None:
    run = dead_run(tmp_path, "aa11", acquired(1, server=server.url))
    seen: list[bool] = []
    answer = told()

    def looks(*arguments: object) -> bool:
        seen.append(fold(read_spool(run).records)[1, 1].terminal is not None)
        return bool(answer(*arguments))

    server.script(looks)
    flush(tmp_path, errand)
    assert seen == [True]


def test_several_reports_of_a_run_go_in_one_call(server: ScriptedServer, tmp_path: Path, errand: Errand) -> None:
    server.script(ok([command("alreadydone"), command("tobekilled"), command()]))
    records = [acquired(number, server=server.url) for number in (1, 2, 3, 4)]
    run = dead_run(tmp_path, "aa11", *records, terminal(2), terminal(4), accepted(4))
    result = flush(tmp_path, errand)
    assert (result.told, result.orphans, len(server.heard)) == (3, 2, 1)
    assert [entry["job_id"] for entry in server.heard[0].arguments["job_list"]] == [1, 2, 3]
    assert left_in(run) == []


@pytest.mark.parametrize("text", ["alreadydone", "tobekilled"])
def test_what_the_server_knew_already_is_told(
    server: ScriptedServer, tmp_path: Path, errand: Errand, text: str
) -> None:
    server.script(told(text))
    dead_run(tmp_path, "aa11", acquired(1, server=server.url), terminal(1))
    assert flush(tmp_path, errand).exit_code == 0


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (ok({"StatusCode": 30}, "Database error"), (4, "server")),
        (says(503, "busy"), (4, "server")),
        (says(200, "<html>"), (4, "server")),
        (no("production or pilot role required"), (3, "credential")),
    ],
)
def test_what_was_not_taken_is_left_for_the_next(
    server: ScriptedServer, tmp_path: Path, errand: Errand, act: object, expected: tuple[int, str]
) -> None:
    server.script(act)
    run = dead_run(tmp_path, "aa11", acquired(1, server=server.url))
    result = flush(tmp_path, errand)
    assert (result.exit_code, result.left[0].reason) == expected
    assert result.told == 0
    assert result.left[0].panda_id == 1
    assert "1 left" in result.line()
    assert left_in(run) == [1]
    server.script(told())
    assert flush(tmp_path, errand).told == 1


def test_a_living_run_is_not_touched(server: ScriptedServer, tmp_path: Path, errand: Errand) -> None:
    run = dead_run(tmp_path, "aa11", acquired(1, server=server.url))
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = flush(tmp_path, errand)
    assert (result.living, result.runs, result.exit_code, server.heard) == (1, 0, 0, [])
    assert flush(tmp_path, errand).told == 1


def test_two_flushes_at_once_send_once(server: ScriptedServer, tmp_path: Path, errand: Errand) -> None:
    dead_run(tmp_path, "aa11", acquired(1, server=server.url), terminal(1))
    inside, release = threading.Event(), threading.Event()
    answer = told()

    def slow(*arguments: object) -> bool:
        inside.set()
        release.wait(30)
        return bool(answer(*arguments))

    server.script(slow)
    results: list[FlushResult] = []
    first = threading.Thread(target=lambda: results.append(flush(tmp_path, errand)))
    first.start()
    assert inside.wait(30)
    second = flush(tmp_path, errand)
    release.set()
    first.join()
    assert (second.living, second.told, results[0].told, len(server.heard)) == (1, 0, 1, 1)


def test_a_server_that_is_down_is_waited_for_once(closed_port: str, tmp_path: Path, errand: Errand) -> None:
    asked: list[str] = []

    def client_of(server: str, given: Credential, ca_path: str | None, api: Api) -> Reporter:
        asked.append(server)
        return errand.client_of(server, given, ca_path, api)

    for name in ("aa11", "bb22", "cc33"):
        dead_run(tmp_path, name, acquired(1, server=closed_port), terminal(1))
    result = flush(tmp_path, replace(errand, client_of=client_of))
    assert (len(result.left), result.exit_code, asked) == (3, 4, [closed_port])


def test_one_run_that_cannot_be_read_does_not_hide_the_others(
    server: ScriptedServer, tmp_path: Path, errand: Errand
) -> None:
    broken = dead_run(tmp_path, "aa11", acquired(1, server=server.url))
    (broken / "lock").mkdir()
    dead_run(tmp_path, "bb22", acquired(2, server="no URL"), terminal(2))
    dead_run(tmp_path, "cc33", acquired(3, server=server.url), terminal(3))
    result = flush(tmp_path, errand)
    assert result.told == 1
    assert [left.reason for left in result.left] == ["environment", "bad-input"]


def test_a_garbage_line_is_named_and_the_rest_is_told(server: ScriptedServer, tmp_path: Path, errand: Errand) -> None:
    run = dead_run(tmp_path, "aa11", acquired(1, server=server.url))
    with (run / "spool.jsonl").open("ab") as file:
        file.write(b"garbage\n" + terminal(2).to_json().encode() + b'\n{"record":"acq')
    server.script(ok([command(), command()]))
    result = flush(tmp_path, errand)
    assert result.told == 2
    assert [problem.rpartition(": ")[2] for problem in result.problems] == ["line 2 is no record", "line 4 is torn"]


def test_a_report_of_which_no_server_is_known_is_left(tmp_path: Path, errand: Errand) -> None:
    dead_run(tmp_path, "aa11", terminal(2))
    result = flush(tmp_path, errand)
    assert "from which server" in result.left[0].why


def test_a_killed_flush_can_be_repeated(server: ScriptedServer, tmp_path: Path, errand: Errand) -> None:
    """It dies after the server took the reports and before that was written down."""
    run = dead_run(tmp_path, "aa11", acquired(1, server=server.url), acquired(2, server=server.url), terminal(2))
    program = (
        "import os, sys, time; from pathlib import Path\n"
        "from pilotwrap.panda import flush as room; from pilotwrap.panda.client import connected\n"
        "room._settle = lambda *a: os._exit(9)\n"
        "from pilotwrap.panda.credentials import credential_at\n"
        "errand = room.Errand(connected, 1.0, time.monotonic() + 20, credential_at(sys.argv[2], 'a.production'))\n"
        "room.flush(Path(sys.argv[1]), errand)\n"
    )
    server.script(ok([command(), command()]), ok([command("alreadydone"), command("tobekilled")]))
    token = errand.credential.path if errand.credential else ""
    child = subprocess.run([sys.executable, "-c", program, str(tmp_path), token], check=False)
    assert child.returncode == 9
    assert left_in(run) == [1, 2]
    assert flush(tmp_path, errand).told == 2
    first, second = (heard.arguments["job_list"] for heard in server.heard)
    assert first == second  # also the orphan's, whose time of end is that of the first flush


def test_only_run_directories_are_looked_at(tmp_path: Path) -> None:
    run = dead_run(tmp_path, "aa11", acquired(1))
    (tmp_path / "file").touch()
    (tmp_path / "bb").mkdir()
    (tmp_path / "longer" / "cc33").mkdir(parents=True)
    (tmp_path / "longer" / "cc33" / "spool.jsonl").touch()
    (tmp_path / "dd").symlink_to(tmp_path / "aa")
    assert run_dirs(tmp_path) == (run,)
    assert run_dirs(run) == (run,)
    with pytest.raises(BadInputError, match="cannot be looked into"):
        run_dirs(tmp_path / "none")


class TestVerb:
    def options(self, *words: str) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        verb.arguments(parser)
        return parser.parse_args(words)

    def test_it_prints_one_line_and_exits_0(
        self, server: ScriptedServer, tmp_path: Path, credential: Credential, capsys: pytest.CaptureFixture[str]
    ) -> None:
        dead_run(tmp_path, "aa11", acquired(1, server=server.url), terminal(1))
        words = (str(tmp_path), "--credential", credential.path, "--origin", "atlas.production")
        assert verb.main(self.options(*words)) == 0
        assert capsys.readouterr().out == (
            "1 reports told (0 for jobs without a last word) from 1 ended runs; nothing is left\n"
        )

    def test_as_json_with_what_is_left(
        self, closed_port: str, tmp_path: Path, credential: Credential, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run = dead_run(tmp_path, "aa11", acquired(7, server=closed_port), terminal(7))
        words = (str(tmp_path), "--json", "--deadline", "0", "--credential", credential.path, "--origin", "a.b")
        assert verb.main(self.options(*words)) == 4
        said = json.loads(capsys.readouterr().out)
        assert said["schema"] == "pilotwrap.flush/1"
        assert (said["left"][0]["panda_id"], said["left"][0]["run_dir"]) == (7, str(run))

    def test_the_runs_own_credential_is_used_and_its_loss_is_exit_3(
        self, tmp_path: Path, server: ScriptedServer
    ) -> None:
        dead_run(tmp_path, "aa11", acquired(1, server=server.url), terminal(1))
        assert verb.main(self.options(str(tmp_path))) == 3  # /secret/token is not there
        assert server.heard == []

    def test_as_a_program(self, tmp_path: Path) -> None:
        command_line = [sys.executable, "-m", "pilotwrap", "flush"]
        done = subprocess.run([*command_line, str(tmp_path)], check=False, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        missing = subprocess.run(
            [*command_line, os.fspath(tmp_path / "none")], check=False, capture_output=True, text=True
        )
        assert missing.returncode == 2
        assert missing.stderr.count("\n") == 1
