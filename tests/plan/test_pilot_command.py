"""How the pilot is started, word by word, for an old and a new version; and what is refused or left out, with why."""

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from golden.compare import FOLDER, Compare
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.model.errors import AllocationError, PilotError
from pilotwrap.plan.pilotcommand import pilot_command
from pilotwrap.plan.pilotflags import FIXED_BASE_URL, SHORT, PilotVersion, knows, shown
from pilotwrap.plan.pilotwork import PilotToken, PilotWork

OLD, NEW = (3, 7, 0, 36), (3, 11, 5, 1)
VERSIONS = [OLD, NEW]


def minimal(version: PilotVersion) -> PilotWork:
    return PilotWork(
        version=version,
        python="/usr/bin/python3",
        directory="/opt/pilot",
        workdir="/scratch/job7",
        panda_queue="SITE_GPU",
        lifetime_s=3600,
        url="http://127.0.0.1",
        port=25080,
    )


def full(version: PilotVersion) -> PilotWork:
    return minimal(version).model_copy(
        update={
            "directory": "/opt/pilotwrap/pilot3/",
            "pilot_user": "rubin",
            "prod_source_label": "user",
            "version_tag": "RC",
            "walltime_margin_s": 300,
            "queuedata": "http://127.0.0.1:25080/queuedata/{pandaqueue}",
            "schedconfig": "/scratch/job7/schedconfig.json",
            "storagedata": "/scratch/job7/storage.json",
            "baseurls": ("http://127.0.0.1:25080/trf", "https://trf.example.org/user"),
            "http_proxy": "http://127.0.0.1:25080",
            "token": PilotToken(path="/scratch/job7/bridge token", origin="vo.role"),
            "x509_proxy": "/run/proxy.pem",
            "copytools": ("mv", "rucio"),
            "harvester_id": "harvester-1",
            "harvester_worker_id": "42",
            "scheduler_id": "harvester-harvester-1",
            "node_name": "node317",
            "resource_type": "MCORE_VHIMEM",
            "input_dir": "/scratch/in",
            "input_destination_dir": "/scratch/inputs",
            "output_dir": "/scratch/out",
            "debug": True,
            "extra": ("--country-group=us", "-x", "3"),
        }
    )


WORKS = {f"{shown(version)}-{make.__name__}": make(version) for version in VERSIONS for make in (minimal, full)}


@pytest.mark.parametrize("name", WORKS)
def test_the_pilot_is_started_as_reviewed(name: str, golden: Compare) -> None:
    golden(f"pilot/{name}.json", json.dumps(pilot_command(WORKS[name]).model_dump(), indent=1) + "\n")


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in (FOLDER / "pilot").glob("*.json")} == set(WORKS)


@pytest.mark.parametrize("name", WORKS)
def test_only_flags_that_the_version_knows_are_on_the_command_line(name: str) -> None:
    work = WORKS[name]
    flags = [word.partition("=")[0] for word in pilot_command(work).argv if word.startswith("-")]
    assert [flag for flag in flags if not knows(work.version, flag)] == []


@pytest.mark.parametrize("name", WORKS)
def test_orphan_killing_is_off_and_harvester_s_push_mode_too(name: str) -> None:
    command = pilot_command(WORKS[name])
    assert command.env["PILOT_NOKILL"] == "1"
    assert not [word for word in command.argv if word.startswith(("--harvester", "--noserverupdate", "-z"))]
    assert command.cwd == "/scratch/job7"


def test_what_a_version_lacks_is_left_out_with_its_reason() -> None:
    left_out = [why for why in pilot_command(full(OLD)).because if "without" in why.decision]
    flags = {why.decision.rpartition(" ")[2]: why.reason for why in left_out}
    assert set(flags) == {"--baseurls", "--resource-type", "--noworkerpilotstatusupdate", "--notokenrenewal"}
    assert FIXED_BASE_URL in flags["--baseurls"]
    assert "3.8.1.66" in flags["--noworkerpilotstatusupdate"]
    assert [why for why in pilot_command(full(NEW)).because if "without" in why.decision] == []


def test_base_urls_without_flag_and_without_proxy_are_refused() -> None:
    with pytest.raises(PilotError, match=r"3\.8\.1\.66"):
        pilot_command(full(OLD).model_copy(update={"http_proxy": None}))


def test_a_proxy_that_nobody_needs_is_withheld() -> None:
    work = full(NEW).model_copy(update={"copytools": ("mv", "s3")})
    command = pilot_command(work)
    assert "X509_USER_PROXY" not in command.env
    assert "--noproxyverification" in command.argv
    assert [why.reason for why in command.because if "X.509" in why.decision] == [
        "no copy tool of the queue needs it (mv, s3)"
    ]


def test_an_old_pilot_that_meets_no_https_url_is_spared_its_tls() -> None:
    plain = full(OLD).model_copy(update={"x509_proxy": None})
    assert "--use-https=False" in pilot_command(plain).argv


@pytest.mark.parametrize(
    "change",
    [
        {"version": (3, 7, 2, 4)},
        {"version": NEW},
        {"url": "https://127.0.0.1"},
        {"queuedata": "https://cric.example.org/queues.json"},
        {"schedconfig": None},
        {"storagedata": "https://cric.example.org/storages.json"},
        {"storagedata": None},
        {"x509_proxy": "/run/proxy.pem"},
    ],
)
def test_a_pilot_that_may_need_tls_sets_it_up(change: dict[str, object]) -> None:
    plain = full(OLD).model_copy(update={"x509_proxy": None})
    words = pilot_command(plain.model_copy(update=change)).argv
    assert [word for word in words if word.startswith("--use-https")] == []


def test_a_margin_is_taken_off_the_lifetime_and_none_left_is_refused() -> None:
    assert "--lifetime=3300" in pilot_command(full(NEW)).argv
    with pytest.raises(AllocationError, match="300 s are kept"):
        pilot_command(full(NEW).model_copy(update={"lifetime_s": 300}))


@pytest.mark.parametrize(
    "change",
    [
        {"version": (3, 7, 0, 35)},
        {"workdir": "/scratch/my job"},
        {"workdir": "scratch"},
        {"workdir": "/scratch/$(id)"},
        {"url": "http://127.0.0.1:25080"},
        {"url": "http://127.0.0.1/pilot"},
        {"url": "http://[::1]"},
        {"url": "127.0.0.1"},
        {"baseurls": ("http://a,http://b",)},
        {"token": PilotToken(path="token", origin="vo.role")},
    ],
)
def test_what_the_pilot_would_misread_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(PilotError) as caught:
        pilot_command(minimal(NEW).model_copy(update=change))
    assert caught.value.why
    assert caught.value.remedy


@pytest.mark.parametrize(
    "words",
    [
        ("--harvester-sub=PUSH",),  # the pilot's parser would take this beginning for the flag
        ("--harvester-submit-mode=PUSH",),
        ("-z",),
        ("-dz",),
        ("-p25443",),
        ("-q", "OTHER"),
        ("--url", "https://other.example.org"),
        ("--",),
        ("--no-such-flag",),
    ],
)
@pytest.mark.parametrize("version", [NEW, (3, 12, 0, 1)])
def test_a_user_s_flag_may_not_lead_the_pilot_past_us(version: PilotVersion, words: tuple[str, ...]) -> None:
    work = minimal(version).model_copy(update={"extra": words})
    if words == ("--no-such-flag",) and version > NEW:
        assert pilot_command(work).argv[-1] == "--no-such-flag"  # a newer pilot may have what we never read of
        return
    with pytest.raises(PilotError):
        pilot_command(work)


def test_a_flag_that_this_version_lacks_is_refused_when_a_user_gives_it() -> None:
    with pytest.raises(PilotError):
        pilot_command(minimal(OLD).model_copy(update={"extra": ("--stageout-attempts=2",)}))
    assert pilot_command(minimal(NEW).model_copy(update={"extra": ("--stageout-attempts=2",)})).argv[-1].endswith("=2")


@given(st.lists(st.one_of(st.text(max_size=20), st.sampled_from([*SHORT, *SHORT.values()])), max_size=4).map(tuple))
def test_any_words_of_a_user_go_last_or_are_refused(words: tuple[str, ...]) -> None:
    try:
        argv = pilot_command(minimal(NEW).model_copy(update={"extra": words})).argv
    except PilotError:
        return
    assert argv[len(argv) - len(words) :] == words
    assert not set(words) & {"-q", "-z", "-p", "-j", "-l", "-a", "-w", "--port", "--queue", "--url"}


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.server.server_address[1]} {self.path}".encode())

    def log_message(self, *_words: object) -> None:
        pass


@pytest.fixture
def servers() -> Iterator[tuple[int, int]]:
    both = [ThreadingHTTPServer(("127.0.0.1", 0), _Answer) for _ in range(2)]
    for server in both:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield both[0].server_address[1], both[1].server_address[1]
    for server in both:
        server.shutdown()
        server.server_close()


def test_loopback_is_reached_directly_and_the_fixed_place_by_the_proxy(servers: tuple[int, int]) -> None:
    bridge, proxy = servers
    work = full(OLD).model_copy(update={"http_proxy": f"http://127.0.0.1:{proxy}"})
    env = pilot_command(work).env
    said = [
        subprocess.run(["curl", "-sS", url], env=env, capture_output=True, text=True, timeout=20, check=True).stdout
        for url in (f"http://127.0.0.1:{bridge}/getJob", f"{FIXED_BASE_URL}/run.sh")
    ]
    assert said == [f"{bridge} /getJob", f"{proxy} {FIXED_BASE_URL}/run.sh"]
