"""The embedded store: the tree in memory, its persistent nodes in one SQLite file beside the data. One process.

What stays true: a write is on stable storage when it returns (WAL, synchronous=FULL), except where all it does is come
and go with this process: ephemeral nodes are never written, for the session ends with the process; what they changed at
their parents goes down with the next durable write. zxids never repeat: the upper half of one counts the openings of
the file that wrote something, and an opening is counted with the first thing it writes; one that wrote nothing leaves
nothing behind that has its zxids. After the medium has failed nothing more is written. A new file is made under another
name and renamed when it is whole: a start that is cut short leaves no half of one. Another file beside it holds some
room, which is given up when the disk is full, so that a broker starts and topics can be deleted even then.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from cluster.metadata.store import StoreError, StoreFailed
from cluster.metadata.tree import Change, Node, Tree
from cluster.metadata.tree_store import TreeStore
from pylog.files import TEMPORARY_SUFFIX, sync_directory, sync_file, unlink_if_there
from pylog.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
else:  # the C half of sqlite3: the other half imports datetime, for conversions that nobody here asks for
    import _sqlite3 as sqlite3

FILE_NAME = "metadata.db"
_APPLICATION_ID = 0x706C6F67  # "plog"
_FORMAT = 1
_EPOCH_SHIFT = 32
_RESERVE_SUFFIX = "-reserve"
_RESERVE_BYTES = 256 << 10

_SCHEMA = (
    "CREATE TABLE node (path TEXT PRIMARY KEY, data BLOB, czxid INTEGER NOT NULL, mzxid INTEGER NOT NULL,"
    " ctime INTEGER NOT NULL, mtime INTEGER NOT NULL, version INTEGER NOT NULL, creations INTEGER NOT NULL,"
    " pzxid INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE epoch (openings INTEGER NOT NULL)",
    "INSERT INTO epoch VALUES (0)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_FORMAT}",
)


class StoreInUse(StoreError):
    """Another process has the file."""


class NotAStore(StoreError):
    """The file is something else, damaged, or of a format that this version does not know."""


class StoreFull(StoreError):
    """No room on the disk; nothing was changed, and the same write may work later."""


class LocalStore(TreeStore):
    """The one session on the file. Control thread."""

    def __init__(self, path: str, now_ms: Callable[[], int]) -> None:
        """Open or make the file. Raises StoreInUse, NotAStore, StoreFull, StoreFailed."""
        self._path = path
        self._pending: set[str] = set()  # persistent nodes at which only ephemeral children came and went
        self._failed = False
        self._counted = False
        try:
            if not os.path.exists(path) or not os.path.getsize(path):
                _make(path)
            self._database = _connect(path)
        except sqlite3.Error as error:
            raise _opening_error(path, error) from error
        except OSError as error:
            raise (StoreFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else StoreFailed)(path) from error
        try:
            epoch, nodes = _read(self._database, path)
        except sqlite3.Error as error:
            self._database.close()
            raise _opening_error(path, error) from error
        except BaseException:
            self._database.close()
            raise
        super().__init__(Tree(nodes, epoch << _EPOCH_SHIFT), epoch, now_ms)
        _lay_in_reserve(path)

    def close(self) -> None:
        """End the session. The file is complete by itself afterwards, without its -wal."""
        if not self._open:
            return
        try:
            super().close()
            if self._pending and not self._failed:
                self._write_rows([(path, self._tree.node(path)) for path in self._pending])
        finally:
            self._database.close()
            _lay_in_reserve(self._path)

    def _write_down(self, change: Change) -> None:
        if self._failed:
            raise StoreFailed(self._path)
        durable: dict[str, Node | None] = {}
        touched: set[str] = set()
        for path, node in change.nodes.items():
            before = self._tree.node(path)
            if (node is None or node.owner) and (before is None or before.owner):
                continue
            if node is not None and before is not None and (node.mzxid, node.czxid) == (before.mzxid, before.czxid):
                touched.add(path)
            else:
                durable[path] = node
        if durable:
            rows = {path: self._tree.node(path) for path in self._pending}
            rows |= {path: change.nodes[path] for path in touched}
            self._write_rows([*(rows | durable).items()])
            self._pending.clear()
        else:
            self._pending |= touched

    def _write_rows(self, rows: Sequence[tuple[str, Node | None]]) -> None:
        try:
            self._try_to_write(rows)
        except StoreFull:
            if not unlink_if_there(self._path + _RESERVE_SUFFIX):
                raise
            self._try_to_write(rows)

    def _try_to_write(self, rows: Sequence[tuple[str, Node | None]]) -> None:
        database = self._database
        try:
            database.execute("BEGIN IMMEDIATE")
            if not self._counted:
                database.execute("UPDATE epoch SET openings = openings + 1")
            gone, there = [], []
            for path, node in rows:
                if node is None or node.owner:
                    gone.append((path,))
                else:
                    there.append(_row(path, node))
            database.executemany("DELETE FROM node WHERE path = ?", gone)
            database.executemany("REPLACE INTO node VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", there)
            database.execute("COMMIT")
            self._counted = True
        except sqlite3.Error as error:
            full = error.sqlite_errorcode == sqlite3.SQLITE_FULL
            try:
                if database.in_transaction:
                    database.execute("ROLLBACK")
            except sqlite3.Error:
                full = False
            if full:
                raise StoreFull(self._path) from error
            # What reached the disk is not known any more, so nothing is tried again.
            self._failed = True
            raise StoreFailed(self._path) from error


def _connect(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        # Exclusive: no second process, and no shared-memory file beside the log.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _lay_in_reserve(path: str) -> None:
    """Hold some room for a time when there is none; nothing when there is none now."""
    reserve = path + _RESERVE_SUFFIX
    try:
        if os.path.exists(reserve):
            return
        fd = os.open(reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.posix_fallocate(fd, 0, _RESERVE_BYTES)
        except OSError:
            os.unlink(reserve)
        finally:
            os.close(fd)
    except OSError:
        pass  # whatever is wrong with the disk, who writes to it will say so


def _make(path: str) -> None:
    """A file with an empty tree. What makes it durable is one fsync of the whole, not one per step."""
    aside = path + TEMPORARY_SUFFIX
    for suffix in ("", "-journal", "-wal"):
        unlink_if_there(aside + suffix)
    database = sqlite3.connect(aside, timeout=0, isolation_level=None)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            database.execute(statement)
        database.execute("COMMIT")
    finally:
        database.close()
    sync_file(aside)
    os.rename(aside, path)
    sync_directory(os.path.dirname(os.path.abspath(path)))


def _read(database: sqlite3.Connection, path: str) -> tuple[int, dict[str, Node]]:
    """The number of this opening, and every node."""
    database.execute("BEGIN IMMEDIATE")
    marks = tuple(database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if marks != (_APPLICATION_ID, _FORMAT):
        raise NotAStore(path)
    (openings,) = database.execute("SELECT openings FROM epoch").fetchone()
    columns = "path, data, czxid, mzxid, ctime, mtime, version, creations, 0, pzxid"
    nodes = {row[0]: Node._make(row[1:]) for row in database.execute(f"SELECT {columns} FROM node")}
    database.execute("COMMIT")
    return openings + 1, nodes


def _row(path: str, node: Node) -> tuple[object, ...]:
    return (
        path, node.data, node.czxid, node.mzxid, node.ctime, node.mtime, node.version, node.creations, node.pzxid,
    )  # fmt: skip


def _opening_error(path: str, error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreInUse(path)
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return NotAStore(path)
    return StoreFull(path) if code == sqlite3.SQLITE_FULL else StoreFailed(path)
