from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest

from pilotwrap.lab.store import Store, iso
from pilotwrap.model.errors import BadInputError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_transaction_holds_other_writers_off_from_its_first_read(store: Store) -> None:
    other = sqlite3.connect(store.path, isolation_level=None, timeout=0)
    with store.transaction():
        store.setting("url")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("INSERT INTO settings VALUES ('a', 'b')")
    other.execute("INSERT INTO settings VALUES ('a', 'b')")
    other.close()
    assert store.setting("a") == "b"


def remember_and_break(store: Store) -> None:
    with store.transaction():
        store.remember("url", "x")
        store.write("no statement")


def test_a_transaction_that_breaks_leaves_nothing(store: Store) -> None:
    with pytest.raises(sqlite3.OperationalError):
        remember_and_break(store)
    assert store.setting("url", "unset") == "unset"


def test_a_database_of_another_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(BadInputError, match="layout 99, not 1"):
        Store(path)


def test_a_missing_database_is_not_made_by_looking_at_it(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no lab database"):
        Store.existing(tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()


def test_times_are_utc() -> None:
    assert iso(0.5) == "1970-01-01T00:00:00.500000Z"
