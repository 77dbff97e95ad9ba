"""The lab's database: one SQLite file in WAL mode, shared by the server and the command line."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeAlias

from pilotwrap.model.errors import BadInputError

SqlValue: TypeAlias = str | int | float | None

_VERSION = 1
_BUSY_MS = 10_000

_SCHEMA = """
CREATE TABLE jobs (
    panda_id INTEGER PRIMARY KEY AUTOINCREMENT,
    attempt_nr INTEGER NOT NULL,
    state TEXT NOT NULL,
    site TEXT NOT NULL,
    label TEXT NOT NULL,
    owner TEXT NOT NULL,
    priority INTEGER NOT NULL,
    min_ram INTEGER NOT NULL,
    max_disk INTEGER NOT NULL,
    max_walltime INTEGER NOT NULL,
    resource_type TEXT NOT NULL,
    task_id INTEGER NOT NULL,
    spec TEXT NOT NULL,
    modified REAL NOT NULL,
    archived INTEGER NOT NULL DEFAULT 0,
    reported TEXT NOT NULL DEFAULT '',
    reports INTEGER NOT NULL DEFAULT 0,
    report TEXT NOT NULL DEFAULT '',
    command TEXT NOT NULL DEFAULT '',
    debug INTEGER NOT NULL DEFAULT 0,
    worker TEXT NOT NULL DEFAULT '',
    fields TEXT NOT NULL DEFAULT '{}',
    files TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX waiting ON jobs (site, priority DESC, panda_id) WHERE state = 'activated';
CREATE INDEX live ON jobs (state, modified) WHERE archived = 0;
CREATE INDEX pending ON jobs (panda_id) WHERE reported != '' AND archived = 0;
CREATE TABLE history (panda_id INTEGER NOT NULL, state TEXT NOT NULL, at TEXT NOT NULL);
CREATE INDEX history_of ON history (panda_id);
CREATE TABLE tokens (
    token TEXT PRIMARY KEY, identity TEXT NOT NULL, vo TEXT NOT NULL, roles TEXT NOT NULL, expires REAL NOT NULL
);
CREATE TABLE workers (
    harvester_id TEXT NOT NULL, worker_id INTEGER NOT NULL, status TEXT NOT NULL, PRIMARY KEY (harvester_id, worker_id)
);
CREATE TABLE harvesters (harvester_id TEXT PRIMARY KEY);
CREATE TABLE worker_statistics (
    harvester_id TEXT NOT NULL, site TEXT NOT NULL, statistics TEXT NOT NULL, PRIMARY KEY (harvester_id, site)
);
CREATE TABLE gpus (
    site TEXT NOT NULL, host TEXT NOT NULL, vendor TEXT NOT NULL, model TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (site, host, vendor, model)
);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


class Store:
    """An open lab database; every writer takes the file for one short transaction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_MS / 1000)
            self._connection.row_factory = sqlite3.Row
            self._prepare()
        except sqlite3.Error as error:
            raise BadInputError(
                f"{path} cannot be used as a lab database", why=str(error), remedy="name another file with --db"
            ) from error

    @classmethod
    def existing(cls, path: Path) -> "Store":
        """Open a database that must be there already."""
        if not path.is_file():
            raise BadInputError(f"no lab database {path}", remedy="make one with `pilotwrap lab put` or `lab serve`")
        return cls(path)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do what is inside as a whole or not at all; nested use joins the outer one."""
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def write(self, statement: str, *values: SqlValue) -> int:
        """Run one changing statement; return the row id that an INSERT made."""
        return self._connection.execute(statement, values).lastrowid or 0

    def rows(self, statement: str, *values: SqlValue) -> list[sqlite3.Row]:
        """Return all rows of a query."""
        return self._connection.execute(statement, values).fetchall()

    def row(self, statement: str, *values: SqlValue) -> sqlite3.Row | None:
        """Return the first row of a query."""
        found: sqlite3.Row | None = self._connection.execute(statement, values).fetchone()
        return found

    def setting(self, name: str, default: str = "") -> str:
        """Return what the lab remembers under a name, such as its URL."""
        row = self.row("SELECT value FROM settings WHERE name = ?", name)
        return str(row["value"]) if row else default

    def remember(self, name: str, value: str) -> None:
        """Keep a setting."""
        self.write("INSERT OR REPLACE INTO settings VALUES (?, ?)", name, value)

    def note(self, panda_id: int, state: str, now: float) -> None:
        """Add a state to a job's history; `now` in seconds since the epoch."""
        self.write("INSERT INTO history VALUES (?, ?, ?)", panda_id, state, iso(now))

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        with self.transaction():
            version = int(self.rows("PRAGMA user_version")[0][0])
            if version == 0:
                for statement in _SCHEMA.split(";\n"):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {_VERSION}")
            elif version != _VERSION:
                raise BadInputError(
                    f"{self.path} has layout {version}, not {_VERSION}", remedy="begin a new file with --db"
                )


def iso(now: float) -> str:
    """Return seconds since the epoch as ISO text in UTC."""
    return datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
