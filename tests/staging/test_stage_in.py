import errno
import hashlib
import math
import os
import resource
import threading
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from storage_element import Handler, Storage

from pilotwrap.model.errors import StageInError
from pilotwrap.run.staging import Terms, Transfer, stage_in

CONTENT = bytes(range(256)) * 20_000
ADLER = f"{zlib.adler32(CONTENT):08x}"
QUICK = Terms(sleep=lambda _seconds: None)


def file_in(store: Path, name: str = "in.dat", content: bytes = CONTENT) -> str:
    (store / name).write_bytes(content)
    return (store / name).as_uri()


def refusal(transfer: Transfer, job: Path, terms: Terms = QUICK) -> StageInError:
    with pytest.raises(StageInError) as caught:
        stage_in([transfer], job, terms)
    assert [path for path in job.iterdir() if path.name.startswith(".part-")] == []
    return caught.value


def test_a_local_file_is_copied_and_known_by_its_checksums(store: Path, job: Path) -> None:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    said = Transfer(lfn="a", url=file_in(store), size=len(CONTENT), adler32=ADLER, md5=md5, sha256=sha256)
    digest = stage_in([said], job, QUICK)["a"]
    assert (job / "a").read_bytes() == CONTENT
    assert (digest.size, digest.adler32, digest.md5, digest.sha256) == (len(CONTENT), ADLER, md5, sha256)


def test_a_web_file_is_fetched(storage: Storage, job: Path) -> None:
    storage.files["/a"] = CONTENT
    stage_in([Transfer(lfn="b", url=f"{storage.url}/a", size=len(CONTENT), adler32=ADLER)], job, QUICK)
    assert (job / "b").read_bytes() == CONTENT
    assert storage.asked[0][2]["Accept-Encoding"] == "identity"


def test_an_empty_file_travels(storage: Storage, store: Path, job: Path) -> None:
    storage.files["/empty"] = b""
    urls = {"web": f"{storage.url}/empty", "file": file_in(store, content=b"")}
    found = stage_in([Transfer(lfn=name, url=url, size=0, adler32="1") for name, url in urls.items()], job, QUICK)
    assert {digest.size for digest in found.values()} == {0}


def test_a_gzip_labelled_answer_is_kept_as_sent(storage: Storage, job: Path) -> None:
    packed = b"\x1f\x8b not really gzip"
    storage.odd["/x.tgz"] = lambda handler: handler.answer(200, packed, **{"Content-Encoding": "gzip"})
    stage_in([Transfer(lfn="x.tgz", url=f"{storage.url}/x.tgz")], job, QUICK)
    assert (job / "x.tgz").read_bytes() == packed


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"adler32": "deadbeef"}, f"its adler32 is {ADLER}, the job says deadbeef"),
        ({"md5": "0" * 32}, "its md5 is"),
        ({"sha256": "0" * 64}, "its sha256 is"),
        ({"size": len(CONTENT) + 1}, f"its size is {len(CONTENT)}, the job says {len(CONTENT) + 1}"),
        ({"size": 100}, "longer than the 100 bytes"),
    ],
)
def test_another_file_than_the_job_names_is_refused(store: Path, job: Path, said: dict[str, str], words: str) -> None:
    error = refusal(Transfer.model_validate({"lfn": "a", "url": file_in(store), **said}), job)
    assert words in str(error)
    assert "the replica is corrupt or the catalogue is wrong" in str(error)
    assert not (job / "a").exists()


def test_leading_zeros_and_case_of_a_checksum_do_not_matter(store: Path, job: Path) -> None:
    content = b"\0\0"
    assert zlib.adler32(content) == 0x20001
    stage_in([Transfer(lfn="a", url=file_in(store, content=content), adler32="00020001")], job, QUICK)
    stage_in([Transfer(lfn="b", url=file_in(store, content=content), adler32="20001")], job, QUICK)
    stage_in([Transfer(lfn="c", url=file_in(store), adler32=ADLER.upper())], job, QUICK)


def test_a_missing_input_is_named(store: Path, job: Path) -> None:
    error = refusal(Transfer(lfn="a", url=(store / "none").as_uri()), job)
    assert "'a'" in str(error)
    assert str(store / "none") in str(error)


def test_a_missing_web_input_is_not_asked_for_again(storage: Storage, job: Path) -> None:
    error = refusal(Transfer(lfn="a", url=f"{storage.url}/none"), job)
    assert "HTTP 404" in str(error)
    assert "storage map" in error.remedy
    assert storage.count("GET") == 1


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_only_regular_files_are_sources(store: Path, job: Path, kind: str) -> None:
    target = store / "odd"
    if kind == "link":
        target.symlink_to("/etc/hostname")
    elif kind == "fifo":
        os.mkfifo(target)
    else:
        target.mkdir()
    assert "only regular files travel" in str(refusal(Transfer(lfn="a", url=target.as_uri()), job))


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "file:relative", "file://elsewhere/x", "x", "file:///a%00b", "root://h//x"]
)
def test_a_url_of_another_kind_is_refused(job: Path, url: str) -> None:
    assert "is no place that files travel to or from" in str(refusal(Transfer(lfn="a", url=url), job))


@pytest.mark.parametrize("url", ["http://[bad/x", "http:///x", "http://host:notaport/x"])
def test_a_url_that_cannot_be_read_is_refused(job: Path, url: str) -> None:
    refusal(Transfer(lfn="a", url=url), job)


def test_a_full_disk_is_said_with_its_remedy(store: Path, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    transfer = Transfer(lfn="a", url=file_in(store))
    monkeypatch.setattr(os, "write", full)
    error = refusal(transfer, job)
    assert "No space left on device" in str(error)
    assert "free some space" in error.remedy


def test_a_file_over_the_size_limit_of_the_process_is_an_error(store: Path, job: Path) -> None:
    transfer = Transfer(lfn="a", url=file_in(store))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        error = refusal(transfer, job)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in str(error)


def test_what_lies_there_complete_is_not_fetched_again(storage: Storage, job: Path) -> None:
    (job / "a").write_bytes(CONTENT)
    said = Transfer(lfn="a", url=f"{storage.url}/a", size=len(CONTENT), adler32=ADLER)
    assert stage_in([said], job, QUICK)["a"].size == len(CONTENT)
    assert storage.asked == []


def test_what_lies_there_otherwise_is_replaced(storage: Storage, job: Path) -> None:
    storage.files["/a"] = CONTENT
    (job / "a").write_bytes(CONTENT[:-1] + b"x")
    stage_in([Transfer(lfn="a", url=f"{storage.url}/a", adler32=ADLER)], job, QUICK)
    assert (job / "a").read_bytes() == CONTENT


def test_a_link_in_the_place_of_an_input_is_replaced_not_followed(store: Path, job: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (job / "a").symlink_to(victim)
    stage_in([Transfer(lfn="a", url=file_in(store), adler32=ADLER)], job, QUICK)
    assert victim.read_text() == "mine"
    assert not (job / "a").is_symlink()


def test_redirects_are_followed_three_times(storage: Storage, job: Path) -> None:
    storage.files["/0"] = CONTENT
    for hop in (1, 2, 3, 4):
        storage.odd[f"/{hop}"] = lambda handler, hop=hop: handler.answer(302, Location=f"/{hop - 1}")
    stage_in([Transfer(lfn="a", url=f"{storage.url}/3", adler32=ADLER)], job, QUICK)
    assert "more than 3 redirects" in str(refusal(Transfer(lfn="b", url=f"{storage.url}/4"), job))


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher:x"])
def test_a_redirect_to_another_scheme_is_not_followed(storage: Storage, job: Path, target: str) -> None:
    storage.odd["/a"] = lambda handler: handler.answer(302, Location=target)
    assert "which is not followed" in str(refusal(Transfer(lfn="a", url=f"{storage.url}/a"), job))


def test_a_busy_storage_is_asked_again(storage: Storage, job: Path) -> None:
    storage.files["/a"] = CONTENT

    def once(handler: Handler) -> None:
        del storage.odd["/a"]
        handler.answer(503)

    storage.odd["/a"] = once
    stage_in([Transfer(lfn="a", url=f"{storage.url}/a", adler32=ADLER)], job, Terms())
    assert storage.count("GET") == 2


def test_a_storage_that_stays_busy_is_given_up(storage: Storage, job: Path) -> None:
    storage.odd["/a"] = lambda handler: handler.answer(503)
    terms = Terms(sleep=time.sleep, clock=time.monotonic, attempts=2)
    assert "HTTP 503" in str(refusal(Transfer(lfn="a", url=f"{storage.url}/a"), job, terms))
    assert storage.count("GET") == 2


def test_a_body_that_breaks_off_is_no_file(storage: Storage, job: Path) -> None:
    def cut(handler: Handler) -> None:
        handler.answer(200, b"half", length="8")
        handler.close_connection = True

    storage.odd["/a"] = cut
    terms = Terms(attempts=1)
    assert "the connection broke off" in str(refusal(Transfer(lfn="a", url=f"{storage.url}/a"), job, terms))


def test_nobody_there_is_said(job: Path) -> None:
    error = refusal(Transfer(lfn="a", url="http://127.0.0.1:1/x"), job, Terms(attempts=1))
    assert "Connection refused" in str(error)
    assert "check that the storage is up" in error.remedy


def test_a_drip_ends_at_the_deadline(storage: Storage, job: Path) -> None:
    def drip(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        while not storage.closing.wait(0.05):
            handler.wfile.write(b".")

    storage.odd["/a"] = drip
    start = time.monotonic()
    error = refusal(Transfer(lfn="a", url=f"{storage.url}/a"), job, Terms(deadline=start + 0.6))
    assert "the time for it is over" in str(error)
    assert time.monotonic() - start < 5


def test_silence_ends_at_the_deadline(storage: Storage, job: Path) -> None:
    storage.odd["/a"] = lambda _handler: storage.closing.wait(30) and None
    start = time.monotonic()
    refusal(Transfer(lfn="a", url=f"{storage.url}/a"), job, Terms(deadline=start + 0.5))
    assert time.monotonic() - start < 5


def test_a_stop_request_ends_it_between_chunks(storage: Storage, job: Path) -> None:
    stop = threading.Event()

    def endless(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**12))
        handler.end_headers()
        handler.wfile.write(CONTENT)
        stop.set()
        while not storage.closing.is_set():
            handler.wfile.write(CONTENT)

    storage.odd["/a"] = endless
    error = refusal(Transfer(lfn="a", url=f"{storage.url}/a"), job, Terms(deadline=math.inf, stopped=stop.is_set))
    assert "stopped on request" in str(error)


def test_no_credential_is_sent_and_none_is_shown(
    storage: Storage, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password hidden\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("no_proxy", "*")
    storage.files["/a"] = CONTENT
    for host in ("127.0.0.1", "127.1"):  # the second is not recognised as this node, so the environment is heard
        url = storage.url.replace("127.0.0.1", host)
        stage_in([Transfer(lfn="a", url=f"{url}/a")], job, QUICK)
        assert "Authorization" not in storage.asked[-1][2]
    error = refusal(Transfer(lfn="b", url=f"{storage.url}/none?signature=hidden"), job)
    assert "hidden" not in str(error)


def test_a_proxy_is_not_asked_for_this_node(storage: Storage, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    storage.files["/a"] = CONTENT
    stage_in([Transfer(lfn="a", url=f"{storage.url}/a")], job, QUICK)


@pytest.mark.parametrize("name", ["../a", "a/b", "-rf", ".hidden", "", "a\0b", "a b", "x" * 256, "a\n", "."])
def test_a_name_that_leads_elsewhere_is_refused(store: Path, job: Path, name: str) -> None:
    assert "is not a plain file name" in str(refusal(Transfer(lfn=name, url=file_in(store)), job))
    assert list(job.iterdir()) == []


@given(name=st.text(max_size=300))
def test_whatever_the_name_nothing_is_made_outside(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    top = tmp_path_factory.mktemp("names")
    (top / "job").mkdir()
    (top / "source").write_bytes(b"x")
    try:
        stage_in([Transfer(lfn=name, url=(top / "source").as_uri())], top / "job", QUICK)
    except StageInError:
        assert list((top / "job").iterdir()) == []
    else:
        assert [path.name for path in (top / "job").iterdir()] == [name]
    assert {path.name for path in top.iterdir()} == {"job", "source"}
