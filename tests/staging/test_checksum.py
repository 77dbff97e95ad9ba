import hashlib
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotwrap.model.outcome import Usage
from pilotwrap.run.checksum import digest_of
from pilotwrap.run.jobfile import is_safe_name
from pilotwrap.run.usage import prmon_summary


@given(chunks=st.lists(st.binary()))
def test_chunks_give_the_digest_of_the_whole(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    digest = digest_of(chunks, md5=True, sha256=True)
    assert digest.size == len(whole)
    assert digest.adler32 == f"{zlib.adler32(whole):08x}"
    assert digest.md5 == hashlib.md5(whole, usedforsecurity=False).hexdigest()
    assert digest.sha256 == hashlib.sha256(whole).hexdigest()


@pytest.mark.parametrize(("content", "adler32"), [(b"", "00000001"), (b"a", "00620062"), (b"Wikipedia", "11e60398")])
def test_adler32_has_eight_digits(content: bytes, adler32: str) -> None:
    assert digest_of([content]).adler32 == adler32


def test_only_what_was_asked_for_is_computed() -> None:
    assert digest_of([b"x"]).md5 is None
    assert digest_of([b"x"]).sha256 is None


@given(name=st.text(max_size=300))
def test_a_safe_name_is_one_component(name: str) -> None:
    if is_safe_name(name):
        assert "/" not in name
        assert "\0" not in name
        assert name[0] not in "-."
        assert 0 < len(name.encode()) <= 255


@pytest.mark.parametrize("name", ["a", "log.53e4-1.job.log.tgz", "A_b.c+d=e:f@g%h,i-j", "0", "x" * 255])
def test_the_fields_names_are_safe(name: str) -> None:
    assert is_safe_name(name)


def test_use_reads_as_prmon_writes_it() -> None:
    summary = json.loads(prmon_summary(Usage(wall_s=10.4, user_s=7.6, system_s=1.2, max_rss_kib=2048)))
    assert summary["Max"] == {"rss": 2048, "stime": 1, "utime": 8, "wtime": 10}
    assert set(summary) == {"Avg", "Max", "prmon"}
    assert summary["prmon"]["Version"].startswith("pilotwrap ")
