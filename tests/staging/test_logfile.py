import errno
import io
import os
import tarfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.run.logfile import Bounds, LogFile, log_bytes, write_log

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def said(job: Path) -> None:
    (job / "stdout").write_text("hello\n")
    (job / "stderr").write_text("")


def inside(log: LogFile) -> dict[str, bytes]:
    assert log.path is not None, log.detail
    return unpacked(Path(log.path).read_bytes())


def unpacked(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        return {member.name: (archive.extractfile(member) or io.BytesIO()).read() for member in archive.getmembers()}


def test_the_log_holds_what_the_job_said_first(job: Path) -> None:
    (job / "a.txt").write_text("a")
    (job / "sub").mkdir()
    (job / "sub" / "b.log").write_text("b")
    log = write_log(job, "log.tgz")
    assert list(inside(log).items()) == [("stdout", b"hello\n"), ("stderr", b""), ("a.txt", b"a"), ("sub/b.log", b"b")]
    assert log.size == (job / "log.tgz").stat().st_size
    assert log.detail == ""


def test_inputs_outputs_and_an_older_log_are_left_out(job: Path) -> None:
    (job / "in.dat").write_text("in")
    write_log(job, "log.tgz")
    assert set(inside(write_log(job, "log.tgz", exclude=["in.dat"]))) == {"stdout", "stderr"}


def test_the_same_files_give_the_same_bytes(job: Path) -> None:
    for name in ("z", "a", "m"):
        (job / name).write_text(name)
    first = log_bytes(job, [], Bounds())
    assert log_bytes(job, [], Bounds()) == first
    assert list(unpacked(first)) == ["stdout", "stderr", "a", "m", "z"]


def test_data_is_no_log(job: Path) -> None:
    (job / "core").write_bytes(b"\x7fELF\0\0\0")
    assert set(inside(write_log(job, "log.tgz"))) == {"stdout", "stderr"}


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "my_Token.json",
        "x509up_u0",
        "proxy.txt",
        ".netrc",
        "userkey.pem",
        "id_rsa",
        "credentials.ini",
        "client_secret",
        "password",
        "host.key",
    ],
)
def test_a_file_named_like_a_secret_is_left_out(job: Path, name: str) -> None:
    (job / name).write_text("abc")
    (job / "sub").mkdir()
    (job / "sub" / name).write_text("abc")
    assert set(inside(write_log(job, "log.tgz"))) == {"stdout", "stderr"}


@pytest.mark.parametrize("text", ["-----BEGIN RSA PRIVATE KEY-----\n", "-----BEGIN CERTIFICATE-----\n", f"a: {JWT}\n"])
def test_a_file_that_holds_a_secret_is_left_out(job: Path, text: str) -> None:
    (job / "notes.txt").write_text("some text\n" + text)
    assert set(inside(write_log(job, "log.tgz"))) == {"stdout", "stderr"}


def test_what_was_made_elsewhere_is_left_out(job: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("of another")
    (job / "link").symlink_to(tmp_path / "elsewhere" / "file")
    (job / "folder").symlink_to(tmp_path / "elsewhere")
    (job / "hard").hardlink_to(tmp_path / "elsewhere" / "file")
    os.mkfifo(job / "fifo")
    assert set(inside(write_log(job, "log.tgz"))) == {"stdout", "stderr"}


def test_a_stdout_that_is_a_link_is_not_followed(job: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of another")
    (job / "stdout").unlink()
    (job / "stdout").symlink_to(tmp_path / "secret")
    assert set(inside(write_log(job, "log.tgz"))) == {"stderr"}


def test_the_middle_of_a_long_file_is_cut_out(job: Path) -> None:
    (job / "stdout").write_bytes(b"first" + b"." * 5_000_000 + b"last")
    content = inside(write_log(job, "log.tgz"))["stdout"]
    assert content.startswith(b"first")
    assert content.endswith(b"last")
    assert f"{5_000_009 - 1024 * 1024} bytes left out".encode() in content
    assert len(content) < 1024 * 1024 + 100


def test_files_and_bytes_are_bounded_and_stdout_comes_first(job: Path) -> None:
    for number in range(50):
        (job / f"f{number:02d}").write_bytes(b"x" * 1000)
    assert len(unpacked(log_bytes(job, [], Bounds(files=10)))) == 10
    few = unpacked(log_bytes(job, [], Bounds(total=5500)))
    assert sum(len(content) for content in few.values()) <= 5500
    assert next(iter(few)) == "stdout"


def test_a_forest_of_folders_is_bounded(job: Path) -> None:
    deep = job
    for _level in range(10):
        deep = deep / "d"
        deep.mkdir()
        (deep / "f.txt").write_text("x")
    assert set(inside(write_log(job, "log.tgz"))) == {"stdout", "stderr", "d/f.txt", "d/d/f.txt"}


def test_the_log_tells_nothing_of_accounts(job: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(log_bytes(job, [], Bounds())), mode="r:gz") as archive:
        assert {(one.uid, one.gid, one.uname, one.gname) for one in archive.getmembers()} == {(0, 0, "", "")}


def test_a_full_disk_gives_a_scanty_log(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (job / "stdout").write_bytes(os.urandom(200_000).hex().encode())
    write = os.write

    def nearly_full(descriptor: int, data: bytes) -> int:
        if len(data) > 20_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", nearly_full)
    log = write_log(job, "log.tgz")
    assert "No space left on device" in log.detail
    assert b"bytes left out" in inside(log)["stdout"]


def test_no_space_at_all_is_an_answer_not_a_crash(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    log = write_log(job, "log.tgz")
    assert log.path is None
    assert "No space left on device" in log.detail
    assert sorted(path.name for path in job.iterdir()) == ["stderr", "stdout"]


def test_a_directory_that_is_gone_is_an_answer(tmp_path: Path) -> None:
    assert write_log(tmp_path / "none", "log.tgz").path is None


@pytest.mark.parametrize("name", ["../log.tgz", "/tmp/log.tgz", "-l", ".l", ""])
def test_an_unsafe_name_is_an_answer(job: Path, name: str) -> None:
    log = write_log(job, name)
    assert log.path is None
    assert "not a plain file name" in log.detail


def test_a_link_in_the_place_of_the_log_is_replaced(job: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (job / "log.tgz").symlink_to(tmp_path / "victim")
    assert inside(write_log(job, "log.tgz"))
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_small_log_takes_two_milliseconds_at_most(job: Path) -> None:
    write_log(job, "log.tgz")
    times = []
    for _turn in range(20):
        start = time.process_time()
        write_log(job, "log.tgz")
        times.append(time.process_time() - start)
    assert min(times) <= 0.002


@given(name=st.text(), content=st.binary(max_size=200))
def test_whatever_lies_there_the_log_is_written(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("log")
    try:
        (folder / name).write_bytes(content)
    except (OSError, ValueError):
        (folder / "plain").write_bytes(content)
    log = write_log(folder, "log.tgz")
    assert log.path is not None
    assert set(inside(log).values()) <= {content}
