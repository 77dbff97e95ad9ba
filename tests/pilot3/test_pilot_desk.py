"""What the bridge is told of its visitors: whose a token is, one job once, a word kept or not, documents."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import pytest

from pilotwrap.panda.bridge import Bridge, UnkeptError
from pilotwrap.panda.legacy import PilotUpdate
from pilotwrap.run.pilot3 import desk as module
from pilotwrap.run.pilot3.desk import KILL, NULL, Desk, Errand, Reply

PATIENCE_S = 30.0


class Listener:
    """Keeps what a desk hands on; `answer` does what the run would do with a pilot's word."""

    def __init__(self) -> None:
        self.words: list[tuple[str, str]] = []
        self.seen: list[tuple[str, str]] = []
        self.answer: Callable[[Reply], None] = lambda reply: reply(NULL)

    def heard(self, name: str, update: PilotUpdate, reply: Reply) -> None:
        self.words.append((name, update.state))
        self.answer(reply)

    def saw(self, name: str, what: str) -> None:
        self.seen.append((name, what))


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def desk(listener: Listener) -> Desk:
    return Desk(listener.heard, listener.saw)


def update(panda_id: int, state: str = "running") -> PilotUpdate:
    return PilotUpdate(panda_id=panda_id, attempt_nr=1, state=state, arguments={})


def errand(name: str, panda_id: int) -> Errand:
    return Errand(name, panda_id, {"PandaID": panda_id})


class TestVisitors:
    def test_each_errand_has_a_token_and_a_secret_that_no_other_has(self) -> None:
        made = [errand(f"{number}-1", number) for number in range(50)]
        assert len({word for one in made for word in (one.token, one.secret)}) == 100
        assert min(len(word) for one in made for word in (one.token, one.secret)) >= 24

    def test_a_token_is_its_own_pilots_and_no_others(self, desk: Desk) -> None:
        one, two = errand("1-1", 1), errand("2-1", 2)
        desk.open(one)
        desk.open(two)
        assert (desk.visitor(one.token), desk.visitor(two.token)) == ("1-1", "2-1")
        for wrong in ("", one.token[:-1], one.token + "x", one.secret, "é" * 40, "\0"):
            assert desk.visitor(wrong) is None

    def test_who_left_is_let_in_no_more_and_has_no_job(self, desk: Desk, listener: Listener) -> None:
        one = errand("1-1", 1)
        desk.open(one)
        desk.close("1-1")
        desk.close("1-1")
        assert desk.visitor(one.token) is None
        assert desk.job("1-1") is None
        assert desk.told("1-1", update(1)) == KILL
        assert desk.states("1-1", [1]) == {}
        assert (listener.words, listener.seen) == ([], [])

    def test_secrets_do_not_show_where_an_errand_is_printed(self) -> None:
        one = errand("1-1", 1)
        one.documents["run"] = b"hush"
        assert one.token not in repr(one)
        assert one.secret not in repr(one)
        assert "hush" not in repr(one)


class TestJobs:
    def test_a_job_may_be_asked_for_again_until_the_first_word_on_it(self, desk: Desk, listener: Listener) -> None:
        """An answer that was lost on its way is asked for again; a pilot that has begun would run it twice."""
        one = errand("1-1", 1)
        desk.open(one)
        assert desk.job("1-1") == {"PandaID": 1}
        assert desk.job("1-1") == {"PandaID": 1}
        assert one.asked
        assert desk.told("1-1", update(1, "starting")) == NULL
        assert desk.job("1-1") is None
        assert listener.seen == [("1-1", "asked for its job")] * 2

    def test_the_job_of_another_errand_is_not_given(self, desk: Desk) -> None:
        desk.open(errand("1-1", 1))
        assert desk.job("2-1") is None

    def test_the_states_of_others_jobs_are_not_told(self, desk: Desk) -> None:
        desk.open(errand("1-1", 1))
        desk.open(errand("2-1", 2))
        assert desk.states("1-1", [1, 2, 3]) == {1: "running"}

    def test_what_a_pilot_says_of_itself_is_only_noticed(self, desk: Desk, listener: Listener) -> None:
        desk.open(errand("1-1", 1))
        desk.worker("1-1", "started")
        assert listener.seen == [("1-1", "said that it has started")]
        assert listener.words == []


class TestWords:
    def test_a_word_on_anothers_job_is_not_heard(self, desk: Desk, listener: Listener) -> None:
        one = errand("1-1", 1)
        desk.open(one)
        desk.open(errand("2-1", 2))
        assert desk.told("1-1", update(2)) == KILL
        assert listener.words == []
        assert not one.spoke

    def test_the_answer_is_what_the_run_says(self, desk: Desk, listener: Listener) -> None:
        desk.open(errand("1-1", 1))
        listener.answer = lambda reply: reply(KILL)
        assert desk.told("1-1", update(1)) == KILL

    def test_a_word_waits_until_it_is_kept(self, desk: Desk, listener: Listener) -> None:
        held: list[Reply] = []
        there = threading.Event()

        def hold(reply: Reply) -> None:
            held.append(reply)
            there.set()

        listener.answer = hold
        desk.open(errand("1-1", 1))
        with ThreadPoolExecutor(1) as pool:
            said = pool.submit(desk.told, "1-1", update(1, "finished"))
            assert there.wait(PATIENCE_S)
            assert desk.states("1-1", [1]) == {1: "running"}  # nothing else waits for it
            assert not said.done()
            held[0](NULL)
            assert said.result(PATIENCE_S) == NULL

    def test_a_word_that_is_refused_by_the_disk_is_unkept(self, desk: Desk, listener: Listener) -> None:
        desk.open(errand("1-1", 1))
        listener.answer = lambda reply: reply(None)
        with pytest.raises(UnkeptError):
            desk.told("1-1", update(1, "finished"))

    def test_a_word_that_is_not_kept_in_time_is_unkept(
        self, desk: Desk, listener: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "KEPT_S", 0.01)
        desk.open(errand("1-1", 1))
        late: list[Reply] = []
        listener.answer = late.append
        with pytest.raises(UnkeptError):
            desk.told("1-1", update(1, "finished"))
        late[0](NULL)  # nobody waits any more

    def test_there_is_time_left_to_say_so_before_the_pilots_curl_gives_up(self) -> None:
        assert module.KEPT_S < 120


class TestDocuments:
    def test_only_who_knows_the_secret_has_the_document(self, desk: Desk) -> None:
        one, two = errand("1-1", 1), errand("2-1", 2)
        one.documents["run"] = b"one"
        two.documents["run"] = b"two"
        desk.open(one)
        desk.open(two)
        assert (desk.document(one.secret, "run"), desk.document(two.secret, "run")) == (b"one", b"two")
        for secret, name in ((one.secret, "other"), ("", "run"), (one.token, "run"), ("é", "run")):
            assert desk.document(secret, name) is None
        desk.close("1-1")
        assert desk.document(one.secret, "run") is None


class TestAtTheBridge:
    """The desk where it stands: behind real sockets, several pilots at once."""

    @pytest.fixture
    def bridge(self, desk: Desk) -> Iterator[Bridge]:
        started = Bridge(desk)
        started.start()
        yield started
        started.close()

    @staticmethod
    def call(bridge: Bridge, name: str, token: str, **said: object) -> dict[str, object]:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        request = urllib.request.Request(f"{bridge.url}/server/panda/{name}", urlencode(said).encode(), headers)  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:  # noqa: S310
            found: dict[str, object] = json.loads(reply.read())
        return found

    def test_twenty_pilots_at_once_have_each_its_own(self, bridge: Bridge, desk: Desk, listener: Listener) -> None:
        errands = [errand(f"{number}-1", number) for number in range(1, 21)]
        for one in errands:
            desk.open(one)

        def visit(one: Errand) -> tuple[object, object, object]:
            job = self.call(bridge, "getJob", one.token, siteName="Q")
            said = self.call(bridge, "updateJob", one.token, jobId=one.panda_id, state="running")
            foreign = self.call(bridge, "updateJob", one.token, jobId=one.panda_id % 20 + 1, state="failed")
            return job["PandaID"], said["command"], foreign["command"]

        with ThreadPoolExecutor(20) as pool:
            assert list(pool.map(visit, errands)) == [(one.panda_id, NULL, KILL) for one in errands]
        assert sorted(listener.words) == sorted((one.name, "running") for one in errands)

    def test_a_closed_errands_token_opens_nothing(self, bridge: Bridge, desk: Desk) -> None:
        one = errand("1-1", 1)
        desk.open(one)
        assert self.call(bridge, "getJob", one.token, siteName="Q")["PandaID"] == 1
        desk.close("1-1")
        with pytest.raises(urllib.error.HTTPError) as refused:
            self.call(bridge, "getJob", one.token, siteName="Q")
        assert refused.value.code == 403
        refused.value.close()

    def test_an_unkept_word_is_no_success_to_the_pilot(self, bridge: Bridge, desk: Desk, listener: Listener) -> None:
        one = errand("1-1", 1)
        desk.open(one)
        listener.answer = lambda reply: reply(None)
        said = self.call(bridge, "updateJob", one.token, jobId=1, state="finished")
        assert said["StatusCode"] != 0
        assert "command" not in said
