"""Where the pilot comes from: what the command line's words mean, what is refused, and what is used twice."""

import contextlib
import hashlib
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.model.errors import PilotError, PilotwrapError, UsageError
from pilotwrap.run.pilot3 import cache as pilotcache
from pilotwrap.run.pilot3.cache import PilotCache
from pilotwrap.run.pilot3.source import PilotSource, find, pilot_source, version_in

SHA = "0" * 64
CONSTANTS = "RELEASE = '3'\nVERSION = '4'  # comment\nREVISION = '5'\nBUILD = '8'\nraise SystemExit('never run')\n"


def packed(*members: tuple[str, bytes], add: Callable[[tarfile.TarFile], None] = lambda _: None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755 if name.endswith("pilot.py") else 0o666
            archive.addfile(member, io.BytesIO(content))
        add(archive)
    return buffer.getvalue()


def good(top: str = "panda-pilot-3.7.0.36/") -> bytes:
    return packed(
        (f"{top}pilot.py", b"raise SystemExit('never run')\n"),
        (f"{top}PILOTVERSION", b"3.7.0.36"),
        (f"{top}pilot/__init__.py", b""),
    )


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def saved(folder: Path, content: bytes) -> PilotSource:
    path = folder / "pilot.tar.gz"
    path.write_bytes(content)
    return pilot_source(f"{path}#sha256={sha256(content)}")


def placed(home: Path, version: str = "3.11.5.1") -> Path:
    home.mkdir(parents=True)
    (home / "pilot.py").write_text("raise SystemExit('never run')\n")
    (home / "PILOTVERSION").write_text(f"{version}\n")
    return home


def modes(home: Path) -> set[str]:
    return {f"{'d' if path.is_dir() else 'f'}{path.stat().st_mode & 0o777:o}" for path in (home, *home.rglob("*"))}


def test_the_words_of_the_command_line() -> None:
    assert pilot_source("image").kind == "image"
    assert pilot_source("./image") == PilotSource(kind="directory", path="./image")
    assert pilot_source("/cvmfs/pilot3") == PilotSource(kind="directory", path="/cvmfs/pilot3")
    tarball = PilotSource(kind="tarball", path="/a#b.tar.gz", sha256="ab" * 32)
    assert pilot_source(f"/a#b.tar.gz#sha256={'AB' * 32}") == tarball
    assert len(pilot_source("pypi").sha256 or "") == 64


@pytest.mark.parametrize(
    "text", ["", "pilot.tar.gz", "pilot.tgz", "pilot.tar.gz#sha256=", f"#sha256={SHA}", "p#sha256=é"]
)
def test_a_tarball_without_checksum_and_nothing_at_all_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        pilot_source(text)
    assert caught.value.remedy


@given(st.text())
def test_any_words_are_a_source_or_our_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert (pilot_source(text).kind in {"image", "pypi"}) == (text in {"image", "pypi"})


@pytest.mark.parametrize("top", ["panda-pilot-3.7.0.36/", "pilot3/", ""])
def test_a_tarball_is_unpacked_as_pilot3_for_its_owner_alone(tmp_path: Path, top: str) -> None:
    content = good(top)
    found = find(saved(tmp_path, content), tmp_path / "cache", {})
    assert (Path(found.directory).name, found.version, found.sha256) == ("pilot3", (3, 7, 0, 36), sha256(content))
    assert "3.7.0.36" in found.origin
    assert modes(Path(found.directory)) == {"d700", "f700", "f600"}
    assert (Path(found.directory) / "pilot" / "__init__.py").exists()


def test_what_is_unpacked_is_used_again_without_its_tarball(tmp_path: Path) -> None:
    source = saved(tmp_path, good())
    first = find(source, tmp_path / "cache", {})
    Path(source.path).unlink()
    assert find(source, tmp_path / "cache", {}) == first


def test_another_checksum_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    source = saved(tmp_path, good()).model_copy(update={"sha256": SHA})
    with pytest.raises(PilotError, match=f"expected {SHA}"):
        find(source, tmp_path / "cache", {})
    assert not (tmp_path / "cache").exists()


def link(kind: bytes, name: str, target: str) -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        archive.addfile(member)

    return add


def oversized(archive: tarfile.TarFile) -> None:
    member = tarfile.TarInfo("pilot3/big")
    member.size = pilotcache.MAX_BYTES + 1
    archive.fileobj.write(member.tobuf())  # type: ignore[union-attr]  # open for writing


HOSTILE = {
    "a path out of it": (packed(("pilot3/pilot.py", b""), ("pilot3/../../evil", b"")), "leads out of it"),
    "an absolute path": (packed(("pilot3/pilot.py", b""), ("/tmp/evil", b"")), "leads out of it"),
    "a symbolic link": (
        packed(("pilot3/pilot.py", b""), add=link(tarfile.SYMTYPE, "pilot3/a", "/etc")),
        "neither file nor directory",
    ),
    "a hard link": (
        packed(("pilot3/pilot.py", b""), add=link(tarfile.LNKTYPE, "pilot3/a", "pilot3/pilot.py")),
        "neither file nor directory",
    ),
    "a device": (
        packed(("pilot3/pilot.py", b""), add=link(tarfile.CHRTYPE, "pilot3/null", "")),
        "neither file nor directory",
    ),
    "a fifo": (
        packed(("pilot3/pilot.py", b""), add=link(tarfile.FIFOTYPE, "pilot3/fifo", "")),
        "neither file nor directory",
    ),
    "the same file twice": (packed(("pilot3/pilot.py", b"a"), ("pilot3/pilot.py", b"b")), "cannot be unpacked"),
    "a file and a folder of one name": (
        packed(("pilot3/pilot.py", b""), ("pilot3/a", b""), ("pilot3/a/b", b"")),
        "cannot be unpacked",
    ),
    "more than its bound": (packed(("pilot3/pilot.py", b""), add=oversized), "more than"),
    "no pilot": (packed(("pilot3/setup.py", b"")), "not in its top folder"),
    "a pilot too deep": (packed(("a/b/pilot.py", b"")), "not in its top folder"),
    "a file beside its folder": (packed(("pilot3/pilot.py", b""), ("evil", b"")), "not in its top folder"),
    "no archive": (b"<html>not found</html>", "cannot be unpacked"),
    "half an archive": (good()[:150], "cannot be unpacked"),
    "nothing": (b"", "cannot be unpacked"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_archive_is_refused_whole_that_holds(name: str, tmp_path: Path) -> None:
    content, why = HOSTILE[name]
    with pytest.raises(PilotError, match="the pilot's archive is refused") as caught:
        find(saved(tmp_path, content), tmp_path / "cache", {})
    assert why in caught.value.why
    assert list((tmp_path / "cache").iterdir()) == []
    assert not (tmp_path / "evil").exists()


def damaged(at: int, content: bytes) -> bytes:
    whole = good()
    return whole[: at % len(whole)] + content + whole[at % len(whole) + len(content) :]


@given(st.one_of(st.binary(max_size=300), st.builds(damaged, st.integers(0, 600), st.binary(min_size=1, max_size=9))))
def test_any_bytes_are_a_pilot_or_our_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    with contextlib.suppress(PilotError):
        assert (Path(find(saved(folder, content), folder / "cache", {}).directory) / "pilot.py").is_file()


def test_two_at_a_time_get_the_same_and_leave_no_rest(tmp_path: Path) -> None:
    content, both, got = good(), threading.Barrier(2), list[Path]()

    def fetch() -> bytes:
        both.wait(20)  # so each has seen that nothing is there yet
        return content

    def one() -> None:
        got.append(PilotCache(tmp_path / "cache", shared=False).unpacked(sha256(content), fetch))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(got) == 2
    assert got[0] == got[1]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [sha256(content)]


def test_a_cached_pilot_that_others_may_write_is_not_used(tmp_path: Path) -> None:
    source = saved(tmp_path, good())
    Path(find(source, tmp_path / "cache", {}).directory).chmod(0o777)
    with pytest.raises(PilotError, match="changed by others"):
        find(source, tmp_path / "cache", {})


def test_what_is_shared_is_open_to_others_or_says_what_closes_it(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(PilotError) as caught:
        find(saved(tmp_path, good()), closed / "cache", {}, shared=True)
    assert "is closed to others" in caught.value.why
    (home,) = (closed / "cache").glob("*-shared/pilot3")
    assert modes(home) == {"d755", "f755", "f644"}


def test_a_directory_is_used_where_it_is(tmp_path: Path) -> None:
    home = placed(tmp_path / "pilot3")
    for named in (home, tmp_path):  # itself, or the one that holds it
        found = find(pilot_source(str(named)), tmp_path / "cache", {})
        assert (found.directory, found.version, found.sha256) == (str(home), (3, 11, 5, 1), None)
    assert not (tmp_path / "cache").exists()


def test_a_directory_that_another_user_cannot_read_is_copied(tmp_path: Path) -> None:
    home = placed(tmp_path / "pilot3")
    (home / "pilot.py").chmod(0o600)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(PilotError, match="is closed to others"):
        find(pilot_source(str(home)), closed / "cache", {}, shared=True)
    (copy,) = (closed / "cache").glob("*-shared/pilot3")
    assert modes(copy) == {"d755", "f644"}
    assert version_in(copy) == (3, 11, 5, 1)


def test_the_image_s_places_are_tried_in_turn(tmp_path: Path) -> None:
    places = (str(tmp_path / "none"), str(tmp_path / "here"))
    with pytest.raises(PilotError, match="none"):
        find(PilotSource(kind="image", places=places), tmp_path / "cache", {})
    placed(tmp_path / "here")
    assert find(PilotSource(kind="image", places=places), tmp_path / "cache", {}).directory == str(tmp_path / "here")


def test_a_directory_without_a_pilot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PilotError, match=r"pilot\.py is not there"):
        find(pilot_source(str(tmp_path)), tmp_path / "cache", {})


def test_an_old_tree_tells_its_version_by_its_constants_which_are_not_run(tmp_path: Path) -> None:
    home = placed(tmp_path / "pilot3")
    (home / "PILOTVERSION").unlink()
    (home / "pilot" / "util").mkdir(parents=True)
    (home / "pilot" / "util" / "constants.py").write_text(CONSTANTS)
    assert version_in(home) == (3, 4, 5, 8)


@pytest.mark.parametrize("text", ["", "def broken(", "RELEASE = '3'\n", "\0", "RELEASE: str = '3'\nVERSION = f()\n"])
def test_constants_that_do_not_say_it_are_our_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pilot" / "util" / "constants.py"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(PilotError):
        version_in(tmp_path)


class _Index(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        self.send_error(404)

    def log_message(self, *_words: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[tuple[str, list[str]]]:
    handler = type("Index", (_Index,), {"asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/simple", handler.asked
    server.shutdown()
    server.server_close()


def test_the_index_is_the_one_that_pip_is_set_up_with(tmp_path: Path, index: tuple[str, list[str]]) -> None:
    url, asked = index
    environment = {"PATH": os.defpath, "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": url, "PIP_RETRIES": "0"}
    with pytest.raises(PilotError) as caught:
        find(pilot_source("pypi"), tmp_path / "cache", environment)
    assert asked == ["/simple/panda-pilot/"]
    assert "No matching distribution" in caught.value.why
    assert not (tmp_path / "cache").exists()


def test_the_index_s_own_pilot_is_fetched_once_and_nothing_of_it_is_run(tmp_path: Path) -> None:
    source = pilot_source("pypi")
    try:
        found = find(source, tmp_path / "cache", {**os.environ, "TMPDIR": str(tmp_path)})
    except PilotwrapError as error:
        pytest.skip(f"the package index is not here: {error}")
    assert (found.version, found.sha256) == ((3, 7, 0, 36), source.sha256)
    assert find(source, tmp_path / "cache", {"PIP_INDEX_URL": "http://127.0.0.1:9/"}) == found
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]  # pip and its build left nothing
    assert not list(Path(found.directory).rglob("*.pyc"))
