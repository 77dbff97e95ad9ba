"""The words of `run` as values: what they mean, and what each wrong one is told."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.cli.run import arguments, options_of, read_spec
from pilotwrap.model.errors import BadInputError, CredentialError, PilotwrapError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from pilotwrap.run.options import RunOptions

FETCH = {"panda": {"server": "http://127.0.0.1:1", "panda_queue": "SPEC_QUEUE", "prod_source_label": "test"}}


def options(*words: str) -> RunOptions:
    parser = argparse.ArgumentParser()
    arguments(parser)
    return options_of(parser.parse_args(words))


def spec(folder: Path, name: str = "spec.json", **values: object) -> str:
    path = folder / name
    path.write_text(json.dumps(values or {"command": ["true"]}))
    return str(path)


@pytest.fixture
def token(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.touch(mode=0o600)
    path.write_text("opaque\n")
    return str(path)


class TestMeaning:
    def test_a_spec_alone_is_a_local_run(self, tmp_path: Path) -> None:
        found = options("--spec", spec(tmp_path))
        assert (found.worker, found.server, found.credential) == (None, None, None)
        assert [one.command for one in found.specs] == [("true",)]
        assert (found.jobs, found.wait_for_work_s, found.heartbeat_s, found.as_json) == (None, 0.0, 600.0, False)

    def test_who_fetches_when_nobody_says_it(self, token: str, tmp_path: Path) -> None:
        server = ["--server", "http://127.0.0.1:1", "--panda-queue", "Q", "--credential", token, "--origin", "lab.test"]
        assert options(*server).controllers == "head"  # a job may carry a shape of several nodes
        assert options(*server, "--agent", "pilot3").controllers == "auto"
        assert options(*server, "--spec", spec(tmp_path)).controllers == "auto"
        assert options(*server, "--controllers", "node").controllers == "node"

    def test_several_specs_keep_their_order(self, tmp_path: Path) -> None:
        words = [("--spec", spec(tmp_path, f"{n}.json", command=[str(n)])) for n in range(3)]
        assert [one.command for one in options(*(word for pair in words for word in pair)).specs] == [
            ("0",),
            ("1",),
            ("2",),
        ]

    def test_a_server_alone_fetches_plain_processes(self, token: str) -> None:
        words = ["--server", "http://127.0.0.1:1", "--panda-queue", "Q", "--credential", token]
        found = options(*words, "--jobs", "7", "--origin", "atlas.production", "--label", "user")
        assert found.worker is not None
        assert found.worker.ranks == 1
        assert (found.server, found.panda_queue, found.jobs) == ("http://127.0.0.1:1", "Q", 7)
        assert found.prod_source_label == "user"
        assert found.credential is not None
        assert (found.credential.kind, found.credential.origin) == ("token", "atlas.production")

    def test_a_server_with_a_spec_gives_fetched_jobs_its_shape(self, tmp_path: Path, token: str) -> None:
        shaped = spec(tmp_path, command=["true"], ranks_per_node=3)
        words = ["--server", "http://127.0.0.1:1", "--panda-queue", "Q", "--credential", token]
        found = options(*words, "--origin", "atlas.production", "--spec", shaped)
        assert found.worker is not None
        assert found.worker.ranks_per_node == 3

    def test_a_spec_that_says_where_to_fetch_is_enough(self, tmp_path: Path) -> None:
        credential = {"kind": "token", "path": "/t", "origin": "atlas.production"}
        found = options("--spec", spec(tmp_path, **FETCH, ranks_per_node=2, credential=credential))
        assert (found.server, found.panda_queue, found.prod_source_label) == (
            "http://127.0.0.1:1",
            "SPEC_QUEUE",
            "test",
        )
        assert found.worker is not None
        assert found.worker.ranks_per_node == 2
        assert found.credential is not None
        assert found.credential.path == "/t"

    def test_words_go_before_the_specs_own(self, tmp_path: Path, token: str) -> None:
        credential = {"kind": "token", "path": "/t"}
        found = options(
            *("--spec", spec(tmp_path, **FETCH, credential=credential)),
            *("--server", "http://127.0.0.1:2", "--panda-queue", "MINE"),
            *("--credential", token, "--origin", "atlas.production"),
        )
        assert (found.server, found.panda_queue) == ("http://127.0.0.1:2", "MINE")
        assert found.credential is not None
        assert found.credential.path == token


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ([], "nothing to run; give --spec FILE, or --server"),
            (["--jobs", "3"], "nothing to run"),
            (["--agent", "pilot3"], "the agent pilot3 runs jobs of a server; give --server"),
        ],
    )
    def test_usage(self, words: list[str], said: str) -> None:
        with pytest.raises(UsageError, match=said) as caught:
            options(*words)
        assert caught.value.exit_code == 2

    def test_a_spec_that_fetches_stands_alone(self, tmp_path: Path) -> None:
        fetching, plain = spec(tmp_path, "a.json", **FETCH), spec(tmp_path, "b.json")
        for words in ((fetching, plain), (plain, fetching), (fetching, fetching)):
            with pytest.raises(BadInputError, match="a spec that fetches jobs stands alone"):
                options("--spec", words[0], "--spec", words[1])

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "is not JSON"),
            ("{", "is not JSON"),
            ("[" * 200_000, "is not JSON"),
            ("[]", "is not a JSON object; e.g."),
            ('"command"', "is not a JSON object"),
            ("{}", "the whole: .*either a command or panda"),
            ('{"command": []}', "command is empty"),
            ('{"command": "echo hello"}', 'command: .*it is "echo hello"'),
            ('{"command": ["a\\u0000b"]}', "NUL"),
            ('{"command": ["true"], "nods": 2}', "nods: Extra inputs are not permitted"),
            ('{"command": ["true"], "nodes": 0}', "nodes: .*greater than or equal to 1, it is 0"),
            ('{"command": ["true"], "nodes": -2}', "nodes: .*it is -2"),
            ('{"command": ["true"], "walltime_s": 0}', "walltime_s: "),
            ('{"command": ["true"], "mode": "mpj"}', "mode: .*'copies'.*it is \"mpj\""),
            ('{"command": ["true"], "mode": "one-per-node", "ranks_per_node": 2}', "one-per-node has ranks_per_node 1"),
            ('{"command": ["true"], "binding": [{"cpus": "0"}], "ranks_per_node": 2}', "binding lists 1 local ranks"),
            ('{"command": ["true"], "inputs": [{"lfn": "../x", "path": "/x"}]}', r"inputs\.0\.lfn: .*it is \"\.\./x\""),
            ('{"command": ["true"], "panda": {"server": "x", "panda_queue": "Q"}}', "either a command or panda"),
            ('{"schema": "pilotwrap.job/2", "command": ["true"]}', "schema: "),
        ],
    )
    def test_a_spec_that_cannot_be_read_is_named_with_its_key_and_value(
        self, tmp_path: Path, text: str, said: str
    ) -> None:
        path = tmp_path / "bad.json"
        path.write_text(text)
        with pytest.raises(BadInputError, match=said) as caught:
            options("--spec", str(path))
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)

    def test_a_spec_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(BadInputError, match=r"none\.json cannot be read: No such file"):
            options("--spec", str(tmp_path / "none.json"))

    def test_a_spec_that_is_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(BadInputError, match="cannot be read: Is a directory"):
            options("--spec", str(tmp_path))

    def test_a_token_without_an_origin_is_refused_before_anything_is_asked(self, token: str) -> None:
        with pytest.raises(CredentialError, match=r"has no origin: .*; give --origin VO\.ROLE"):
            options("--server", "http://127.0.0.1:1", "--panda-queue", "Q", "--credential", token)

    def test_a_credential_that_is_not_there_is_a_credentials_fault(self, tmp_path: Path) -> None:
        with pytest.raises(CredentialError) as caught:
            options("--server", "http://127.0.0.1:1", "--credential", str(tmp_path / "none"))
        assert str(tmp_path / "none") in str(caught.value)
        assert caught.value.exit_code == 3

    @pytest.mark.parametrize(
        "words",
        [
            ("--jobs", "0"),
            ("--jobs", "-1"),
            ("--jobs", "1.5"),
            ("--jobs", "٣"),
            ("--jobs", "1" * 40),
            ("--worker-id", "0"),
            ("--wait-for-work", "-1"),
            ("--wait-for-work", "nan"),
            ("--wait-for-work", "inf"),
            ("--heartbeat", "soon"),
            ("--agent", "another"),
        ],
    )
    def test_a_number_that_is_none_is_refused_by_its_name(
        self, words: tuple[str, str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as caught:
            options("--server", "http://127.0.0.1:1", *words)
        assert caught.value.code == 2
        assert f"argument {words[0]}" in capsys.readouterr().err

    @given(st.binary(max_size=80))
    def test_any_file_is_a_spec_or_bad_input(self, tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
        path = tmp_path_factory.mktemp("spec") / "spec.json"
        path.write_bytes(data)
        try:
            read_spec(path)
        except PilotwrapError as error:
            assert error.reason == "bad-input"  # noqa: PT017 - a spec by chance is no failure
