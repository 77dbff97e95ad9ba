import subprocess
import threading
from pathlib import Path

import pytest
from storage_element import Handler, Storage

from pilotwrap.model.errors import BadInputError, StageInError
from pilotwrap.run.transfer import Terms
from pilotwrap.run.transformation import MAX_BYTES, TransformationCache, prepare

SCRIPT = b'#!/bin/sh\nprintf "%s|" "$@"\n'


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(clock: Clock) -> TransformationCache:
    return TransformationCache(clock)


def shell(line: str, job: Path) -> str:
    return subprocess.run(["/bin/sh", "-c", line], cwd=job, check=True, capture_output=True, text=True).stdout


def test_a_fetched_program_runs_with_the_jobs_own_shell_text(
    storage: Storage, job: Path, cache: TransformationCache
) -> None:
    storage.files["/trf/run.sh"] = SCRIPT
    line = prepare(f"{storage.url}/trf/run.sh", "a 'b c' $(echo d) > out", job, cache, Terms())
    shell(line, job)
    assert (job / "out").read_text() == "a|b c|d|"
    assert (job / "run.sh").stat().st_mode & 0o777 == 0o755


def test_a_program_on_disk_runs(store: Path, job: Path, cache: TransformationCache) -> None:
    (store / "t").write_bytes(SCRIPT)
    assert shell(prepare((store / "t").as_uri(), "x", job, cache, Terms()), job) == "x|"


def test_a_script_without_an_interpreter_line_runs_as_the_shell_would(
    store: Path, job: Path, cache: TransformationCache
) -> None:
    (store / "t").write_bytes(b"echo $1\n")
    assert shell(prepare((store / "t").as_uri(), "x", job, cache, Terms()), job) == "x\n"


@pytest.mark.parametrize("command", ["echo", "/bin/echo"])
def test_a_command_that_is_there_needs_no_file(job: Path, cache: TransformationCache, command: str) -> None:
    line = prepare(command, "a  b", job, cache, Terms())
    assert line == f"{command} a  b"
    assert shell(line, job) == "a b\n"
    assert list(job.iterdir()) == []


def test_without_parameters_nothing_is_added(job: Path, cache: TransformationCache) -> None:
    assert prepare("true", "", job, cache, Terms()) == "true"


def test_a_command_cannot_smuggle_in_another(job: Path, cache: TransformationCache) -> None:
    assert prepare("true; rm x", "", job, cache, Terms()) == "'true; rm x'"


def test_many_jobs_fetch_once_a_minute(
    storage: Storage, tmp_path: Path, cache: TransformationCache, clock: Clock
) -> None:
    storage.files["/t"] = SCRIPT

    def one(number: int) -> None:
        folder = tmp_path / f"job{number}"
        folder.mkdir()
        prepare(f"{storage.url}/t", "", folder, cache, Terms())

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.count("GET") == 1
    clock.now += 61
    storage.files["/t"] = b"#!/bin/sh\necho new\n"
    one(99)
    assert (tmp_path / "job99" / "t").read_bytes() == storage.files["/t"]
    assert storage.count("GET") == 2


def test_what_failed_is_not_kept(storage: Storage, job: Path, cache: TransformationCache) -> None:
    with pytest.raises(StageInError, match="HTTP 404"):
        prepare(f"{storage.url}/t", "", job, cache, Terms())
    storage.files["/t"] = SCRIPT
    assert prepare(f"{storage.url}/t", "", job, cache, Terms()) == "./t"


def test_few_programs_are_kept(storage: Storage, job: Path, cache: TransformationCache, clock: Clock) -> None:
    for number in range(12):
        clock.now += 1
        storage.files[f"/{number}"] = SCRIPT
        cache.content(f"{storage.url}/{number}", Terms())
    cache.content(f"{storage.url}/11", Terms())
    assert storage.count("GET") == 12
    cache.content(f"{storage.url}/0", Terms())
    assert storage.count("GET") == 13
    assert job.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><p>log in", "an HTML page"),
        (b"\n <HTML>\n<body>", "an HTML page"),
        (b"", "it is empty"),
        (b"x" * (MAX_BYTES + 1), "longer than"),
    ],
    ids=["doctype", "html", "empty", "long"],
)
def test_what_is_no_program_is_refused(
    storage: Storage, job: Path, cache: TransformationCache, content: bytes, words: str
) -> None:
    storage.files["/t"] = content
    with pytest.raises(StageInError, match=words):
        prepare(f"{storage.url}/t", "", job, cache, Terms())
    assert list(job.iterdir()) == []


@pytest.mark.parametrize("path", ["", "/", "/..", "/a/..%2Fb", "/-rf", "/.profile", "/a%20b", "/a%00"])
def test_a_url_gives_a_plain_name_or_none(storage: Storage, job: Path, cache: TransformationCache, path: str) -> None:
    with pytest.raises(StageInError, match="not a plain file name"):
        prepare(storage.url + path, "", job, cache, Terms())
    assert storage.asked == []


@pytest.mark.parametrize("url", ["ftp://host/t", "root://host//t", "http://[x/t"])
def test_a_url_of_another_kind_is_refused(job: Path, cache: TransformationCache, url: str) -> None:
    with pytest.raises(StageInError):
        prepare(url, "", job, cache, Terms())


@pytest.mark.parametrize(("transformation", "parameters"), [("", "x"), (" ", ""), ("a\0b", ""), ("a", "\0")])
def test_a_job_without_a_program_is_bad_input(
    job: Path, cache: TransformationCache, transformation: str, parameters: str
) -> None:
    with pytest.raises(BadInputError):
        prepare(transformation, parameters, job, cache, Terms())


def test_an_input_of_the_same_name_is_not_overwritten(storage: Storage, job: Path, cache: TransformationCache) -> None:
    storage.files["/t"] = SCRIPT
    (job / "t").write_text("an input")
    with pytest.raises(StageInError, match="of the same name"):
        prepare(f"{storage.url}/t", "", job, cache, Terms())
    assert (job / "t").read_text() == "an input"
    (job / "t").write_bytes(SCRIPT)
    assert prepare(f"{storage.url}/t", "", job, cache, Terms()) == "./t"
    assert shell("./t x", job) == "x|"


def test_a_link_of_the_same_name_is_not_followed(
    storage: Storage, job: Path, cache: TransformationCache, tmp_path: Path
) -> None:
    storage.files["/t"] = SCRIPT
    (tmp_path / "victim").write_text("mine")
    (job / "t").symlink_to(tmp_path / "victim")
    with pytest.raises(StageInError):
        prepare(f"{storage.url}/t", "", job, cache, Terms())
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_slow_fetch_of_one_program_does_not_hold_up_another(
    storage: Storage, job: Path, cache: TransformationCache
) -> None:
    began, go_on = threading.Event(), threading.Event()

    def slow(handler: Handler) -> None:
        began.set()
        go_on.wait(20)
        handler.answer(200, SCRIPT)

    storage.odd["/slow"] = slow
    storage.files["/t"] = SCRIPT
    thread = threading.Thread(target=cache.content, args=(f"{storage.url}/slow", Terms()))
    thread.start()
    assert began.wait(20)
    prepare(f"{storage.url}/t", "", job, cache, Terms())
    assert thread.is_alive()
    with pytest.raises(StageInError, match="stopped on request"):
        prepare(f"{storage.url}/slow", "", job, cache, Terms(stopped=lambda: True))
    go_on.set()
    thread.join()


def test_a_busy_server_is_asked_again(storage: Storage, job: Path, cache: TransformationCache) -> None:
    def once(handler: Handler) -> None:
        del storage.odd["/t"]
        handler.answer(503)

    storage.odd["/t"] = once
    storage.files["/t"] = SCRIPT
    assert prepare(f"{storage.url}/t", "", job, cache, Terms()) == "./t"
