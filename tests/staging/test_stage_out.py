import errno
import os
import socket
import threading
import zlib
from pathlib import Path

import pytest
from storage_element import Handler, Storage

from pilotwrap.model.errors import StageOutError
from pilotwrap.run import transfer
from pilotwrap.run.staging import Outgoing, StagedOut, Terms, stage_out

CONTENT = bytes(range(256)) * 20_000
ADLER = f"{zlib.adler32(CONTENT):08x}"


def sent(job: Path, url: str, terms: Terms | None = None, lfn: str = "out.dat") -> StagedOut:
    return stage_out([Outgoing(lfn=lfn, url=url, guid="g-1")], job, terms or Terms())


def refusal(job: Path, url: str, terms: Terms | None = None, lfn: str = "out.dat") -> StageOutError:
    said = sent(job, url, terms, lfn)
    assert isinstance(said.error, StageOutError)
    assert said.files == {}
    return said.error


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(autouse=True)
def output(job: Path) -> Path:
    (job / "out.dat").write_bytes(CONTENT)
    return job / "out.dat"


def test_an_output_is_copied_and_reported(job: Path, store: Path) -> None:
    said = sent(job, (store / "out.dat").as_uri())
    assert said.error is None
    assert said.files["out.dat"].model_dump() == {
        "guid": "g-1",
        "size": len(CONTENT),
        "adler32": ADLER,
        "url": (store / "out.dat").as_uri(),
    }
    assert (store / "out.dat").read_bytes() == CONTENT
    assert names(store) == ["out.dat"]


def test_an_output_is_put_with_its_length(job: Path, storage: Storage) -> None:
    said = sent(job, f"{storage.url}/d/out.dat")
    assert said.error is None
    assert storage.files["/d/out.dat"] == CONTENT
    assert said.files["out.dat"].adler32 == ADLER
    assert "Authorization" not in storage.asked[0][2]


def test_an_empty_output_travels(job: Path, store: Path, storage: Storage, output: Path) -> None:
    output.write_bytes(b"")
    for url in ((store / "out.dat").as_uri(), f"{storage.url}/out.dat"):
        assert sent(job, url).files["out.dat"].adler32 == "00000001"
    assert storage.files["/out.dat"] == b""


def test_an_older_output_is_replaced(job: Path, store: Path, storage: Storage) -> None:
    (store / "out.dat").write_bytes(b"old")
    storage.files["/out.dat"] = b"old"
    for url in ((store / "out.dat").as_uri(), f"{storage.url}/out.dat"):
        assert sent(job, url).error is None
    assert (store / "out.dat").read_bytes() == storage.files["/out.dat"] == CONTENT


@pytest.mark.parametrize("status", [409, 412])
def test_the_same_file_there_already_is_fine(job: Path, storage: Storage, status: int) -> None:
    def occupied(handler: Handler) -> None:
        if handler.command == "PUT":
            handler.body()
            handler.answer(status)
        else:
            handler.answer(200, storage.files["/out.dat"])

    storage.odd["/out.dat"] = occupied
    storage.files["/out.dat"] = CONTENT
    assert sent(job, f"{storage.url}/out.dat").files["out.dat"].adler32 == ADLER
    storage.files["/out.dat"] = b"another"
    assert f"HTTP {status}" in str(refusal(job, f"{storage.url}/out.dat"))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_put_follows_its_storage_to_another_door(job: Path, storage: Storage, status: int) -> None:
    def elsewhere(handler: Handler) -> None:
        handler.body()
        handler.answer(status, Location="/pool/out.dat")

    storage.odd["/out.dat"] = elsewhere
    said = sent(job, f"{storage.url}/out.dat")
    assert storage.files["/pool/out.dat"] == CONTENT
    assert said.files["out.dat"].adler32 == ADLER


def test_a_put_is_not_turned_into_a_get(job: Path, storage: Storage) -> None:
    def see_other(handler: Handler) -> None:
        handler.body()
        handler.answer(303, Location="/login")

    storage.odd["/out.dat"] = see_other
    assert "which is not followed" in str(refusal(job, f"{storage.url}/out.dat"))
    assert storage.count("GET") == 0


def test_a_busy_storage_gets_the_whole_file_again(job: Path, storage: Storage) -> None:
    def once(handler: Handler) -> None:
        handler.body()
        del storage.odd["/out.dat"]
        handler.answer(503)

    storage.odd["/out.dat"] = once
    assert sent(job, f"{storage.url}/out.dat").files["out.dat"].adler32 == ADLER
    assert storage.files["/out.dat"] == CONTENT


@pytest.mark.parametrize(
    ("status", "remedy"), [(401, "credential"), (403, "ask its operator"), (413, "of this size"), (507, "full")]
)
def test_a_refusal_says_what_to_do(job: Path, storage: Storage, status: int, remedy: str) -> None:
    def refuse(handler: Handler) -> None:
        handler.body()
        handler.answer(status)

    storage.odd["/out.dat"] = refuse
    error = refusal(job, f"{storage.url}/out.dat")
    assert f"HTTP {status}" in str(error)
    assert remedy in error.remedy


def test_a_connection_reset_in_the_middle_is_an_error(job: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def reset() -> None:
            connection, _peer = server.accept()
            connection.recv(1000)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.close()

        thread = threading.Thread(target=reset)
        thread.start()
        error = refusal(job, f"http://127.0.0.1:{server.getsockname()[1]}/out.dat", Terms(attempts=1))
        thread.join()
    assert "check that the storage is up" in error.remedy


def test_a_missing_output_is_named(job: Path, store: Path) -> None:
    error = refusal(job, (store / "x").as_uri(), lfn="none.dat")
    assert "'none.dat'" in str(error)
    assert "there is no file none.dat" in str(error)
    assert "its own directory" in error.remedy


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "dangling", "socket"])
def test_an_output_that_is_no_regular_file_is_refused(job: Path, store: Path, output: Path, kind: str) -> None:
    output.unlink()
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as unix:
            folder = os.open(job, os.O_RDONLY)
            unix.bind(f"/proc/self/fd/{folder}/out.dat")
            os.close(folder)
    else:
        make = {
            "link": lambda: output.symlink_to("/etc/passwd"),
            "dangling": lambda: output.symlink_to("nowhere"),
            "fifo": lambda: os.mkfifo(output),
            "folder": output.mkdir,
        }
        make[kind]()
    assert "'out.dat'" in str(refusal(job, (store / "out.dat").as_uri()))
    assert names(store) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can own a file as somebody else; run as root")
def test_a_hard_link_to_the_file_of_another_user_is_refused(job: Path, store: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of another")
    os.chown(job, 1234, 1234)
    (job / "linked").hardlink_to(tmp_path / "secret")
    error = refusal(job, (store / "linked").as_uri(), lfn="linked")
    assert "hard link" in str(error)


@pytest.mark.parametrize("name", ["../out.dat", "/etc/passwd", "-x", ".x", "a/b", ""])
def test_a_name_that_leads_elsewhere_is_refused(job: Path, store: Path, name: str) -> None:
    assert "is not a plain file name" in str(refusal(job, (store / "x").as_uri(), lfn=name))


def test_a_storage_that_is_not_mounted_is_not_made(job: Path, tmp_path: Path) -> None:
    error = refusal(job, (tmp_path / "nowhere" / "out.dat").as_uri())
    assert "there is no directory" in str(error)
    assert not (tmp_path / "nowhere").exists()


def test_a_full_storage_is_said_and_leaves_no_part(job: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    error = refusal(job, (store / "out.dat").as_uri())
    monkeypatch.undo()
    assert "No space left on device" in str(error)
    assert "is full" in error.remedy
    assert names(store) == []


def test_a_link_in_the_place_of_an_output_is_replaced_not_followed(job: Path, store: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (store / "out.dat").symlink_to(victim)
    assert sent(job, (store / "out.dat").as_uri()).error is None
    assert victim.read_text() == "mine"


def test_what_travelled_before_a_failure_is_still_reported(job: Path, store: Path) -> None:
    wanted = ["out.dat", "none.dat", "late.dat"]
    (job / "late.dat").write_bytes(b"x")
    said = stage_out([Outgoing(lfn=name, url=(store / name).as_uri(), guid=name) for name in wanted], job, Terms())
    assert list(said.files) == ["out.dat"]
    assert "none.dat" in str(said.error)


def test_an_output_that_grows_while_it_is_sent_is_refused(job: Path, store: Path, output: Path) -> None:
    def grow() -> bool:
        with output.open("ab") as file:
            file.write(b"more")
        return False

    assert "changed while it was read" in str(refusal(job, (store / "out.dat").as_uri(), Terms(stopped=grow)))
    assert names(store) == []


def test_a_stop_request_ends_a_put(job: Path, storage: Storage) -> None:
    answers = iter([False, False])
    error = refusal(job, f"{storage.url}/out.dat", Terms(stopped=lambda: next(answers, True)))
    assert "stopped on request" in str(error)
    assert storage.files == {}


def test_a_signature_in_a_url_is_used_but_not_reported(job: Path, storage: Storage) -> None:
    said = sent(job, f"{storage.url}/out.dat?X-Signature=hidden")
    assert storage.asked[0][1].endswith("?X-Signature=hidden")
    assert said.files["out.dat"].url == f"{storage.url}/out.dat"


def test_a_pause_between_tries_ends_when_stopped() -> None:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    terms = Terms(clock=lambda: now[0], sleep=sleep, stopped=lambda: now[0] > 1)
    with pytest.raises(transfer.TransferTrouble, match="stopped on request"):
        terms.pause(60)
    assert now[0] < 2
