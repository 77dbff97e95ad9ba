"""The deadline of the probe is seconds that somebody would wait, or one clear line."""

from __future__ import annotations

import pytest

from pilotwrap.cli.inspect import PROBE_TIMEOUT_VARIABLE, probed
from pilotwrap.model.errors import BadInputError


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "0", "-3", "soon", "", "1e9"])
def test_a_deadline_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(PROBE_TIMEOUT_VARIABLE, text)
    with pytest.raises(BadInputError, match="seconds are expected, more than 0"):
        probed()
