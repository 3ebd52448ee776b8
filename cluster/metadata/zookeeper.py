"""The tree of a cluster: a real ZooKeeper ensemble.

What stays true, besides what `Store` says:
- an operation whose connection is lost is done again on the next one, unless it had been done: a write is never done
  twice, and fails only for what it met (`unsure.py`). It waits for a connection for as long as the session may live, or
  as `patience_ms` says; one that takes twenty connections with it, as a request does that is too large for this very
  server, is given up with ConnectionLoss;
- a request that ZooKeeper would answer by dropping the connection, because it is too large, is refused before;
- when the session is over, every operation raises SessionExpired, and whoever owns the store makes another.

Any thread; watches and `on_session` are called on one thread of the session's and must only enqueue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from kazoo import exceptions as zk
from kazoo.protocol import serialization as wire
from kazoo.security import OPEN_ACL_UNSAFE

from cluster.metadata.session import ManyLists, ManyReads, Request, SessionState, ZooKeeperSession
from cluster.metadata.store import (
    ANY_VERSION,
    MAX_NODE_BYTES,
    AccessDenied,
    BadVersion,
    Check,
    ConnectionLoss,
    Create,
    Delete,
    NoChildrenForEphemerals,
    NodeExists,
    NodeTooLarge,
    NoNode,
    NotEmpty,
    Op,
    OpResult,
    Read,
    SessionExpired,
    SetData,
    Stat,
    StoreError,
    StoreFailed,
    Watch,
    check_path,
)
from cluster.metadata.unsure import all_gone, find_out
from pylog.typed import Final

DEFAULT_SESSION_TIMEOUT_MS: Final = 18_000
DEFAULT_MAX_IN_FLIGHT: Final = 10
_MAX_REQUEST_BYTES: Final = 0xFFFFF - 16  # jute.maxbuffer, less the header
_READS_PER_REQUEST: Final = 200
_MAX_LOSSES: Final = 20
_EPHEMERAL, _SEQUENTIAL = 1, 2

_ERRORS: Final[tuple[tuple[type[Exception], type[StoreError]], ...]] = (
    (zk.NoNodeError, NoNode),
    (zk.NodeExistsError, NodeExists),
    (zk.BadVersionError, BadVersion),
    (zk.NotEmptyError, NotEmpty),
    (zk.NoChildrenForEphemeralsError, NoChildrenForEphemerals),
    (zk.SessionExpiredError, SessionExpired),
    (zk.ConnectionLoss, ConnectionLoss),
    (zk.OperationTimeoutError, ConnectionLoss),
    (zk.SessionMovedError, ConnectionLoss),
    (zk.NoAuthError, AccessDenied),
    (zk.AuthFailedError, AccessDenied),
    (zk.InvalidACLError, AccessDenied),
)


T = TypeVar("T")


def _no_matter(state: SessionState) -> None:
    pass


class ZooKeeperStore:
    """A session of its own on the ensemble that `connect` (zookeeper.connect, with chroot) names."""

    def __init__(
        self,
        connect: str,
        *,
        session_timeout_ms: int = DEFAULT_SESSION_TIMEOUT_MS,
        connection_timeout_ms: int = DEFAULT_SESSION_TIMEOUT_MS,
        max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
        on_session: Callable[[SessionState], None] = _no_matter,
        patience_ms: int | None = None,
        make_chroot: bool = True,
    ) -> None:
        """Connects, and makes the chroot's path as Kafka does. Raises ValueError for a `connect` that makes no sense,
        CannotConnect when nobody answers."""
        self._patience_ms = patience_ms
        self._session = ZooKeeperSession(connect, session_timeout_ms, max_in_flight, on_session)
        self._session.open(connection_timeout_ms)
        if make_chroot and self._session.chroot:
            try:
                self._make_chroot()
            except StoreError:
                self._session.close()
                raise

    @property
    def session_id(self) -> int:
        return self._session.session_id

    def close(self) -> None:
        self._session.close()

    # ------------------------------------------------------------------ reading

    def get(self, path: str, watch: Watch | None = None) -> Read:
        return _or_raise(self._read([self._question(wire.GetData, path, watch)], _as_read)[0])

    def get_many(self, wanted: Sequence[tuple[str, Watch | None]]) -> list[Read | StoreError]:
        requests = []
        for start in range(0, len(wanted), _READS_PER_REQUEST):
            part = wanted[start : start + _READS_PER_REQUEST]
            for path, _ in part:
                check_path(path)
            requests.append(ManyReads([self._session.full(path) for path, _ in part], part))
        found: list[Read | StoreError] = []
        for request, answers in zip(requests, self._read(requests, _as_list), strict=True):
            for (path, _), answer in zip(request.wanted, _or_raise(answers), strict=True):
                found.append(_error(answer, path) if isinstance(answer, Exception) else _as_read(answer))
        return found

    def children_many(self, paths: Sequence[str]) -> list[list[str] | StoreError]:
        requests = []
        for start in range(0, len(paths), _READS_PER_REQUEST):
            part = paths[start : start + _READS_PER_REQUEST]
            for path in part:
                check_path(path)
            requests.append(ManyLists([self._session.full(path) for path in part], part))
        found: list[list[str] | StoreError] = []
        for request, answers in zip(requests, self._read(requests, _as_list), strict=True):
            for path, answer in zip(request.paths, _or_raise(answers), strict=True):
                found.append(_error(answer, path) if isinstance(answer, Exception) else _as_names(answer))
        return found

    def exists(self, path: str, watch: Watch | None = None) -> Stat | None:
        return _or_raise(self._read([self._question(wire.Exists, path, watch)], _as_stat_or_none)[0])

    def children(self, path: str, watch: Watch | None = None) -> list[str]:
        return _or_raise(self._read([self._question(wire.GetChildren, path, watch)], _as_names)[0])

    def _question(self, kind: Callable[[str, object], object], path: str, watch: Watch | None) -> Request:
        check_path(path)
        message = kind(self._session.full(path), None if watch is None else self._session.watcher)
        return Request(message, path, watch, is_children=kind is wire.GetChildren)

    def _read(self, requests: Sequence[Request], convert: Callable[[object], T]) -> list[T | StoreError]:
        """What was lost with a connection is asked again."""
        found: dict[int, T | StoreError] = {}
        todo = list(range(len(requests)))
        for attempt in range(_MAX_LOSSES):
            if not todo:
                break
            answers = self._session.ask([requests[number] for number in todo], self._patience_ms)
            for number, answer in zip(todo, answers, strict=True):
                if not isinstance(answer, Exception):
                    found[number] = convert(answer)
                elif _is_final(error := _error(answer, requests[number].path), attempt):
                    found[number] = error
            todo = [number for number in todo if number not in found]
        return [found[number] for number in range(len(requests))]

    # ------------------------------------------------------------------ writing

    def create(self, path: str, data: bytes | None = None, *, ephemeral: bool = False, sequential: bool = False) -> str:
        (created,) = _or_raise(self._write([[Create(path, data, ephemeral, sequential)]])[0])
        assert isinstance(created, str)
        return created

    def set(self, path: str, data: bytes | None, version: int = ANY_VERSION) -> Stat:
        (stat,) = _or_raise(self._write([[SetData(path, data, version)]])[0])
        assert isinstance(stat, Stat)
        return stat

    def delete(self, path: str, version: int = ANY_VERSION) -> None:
        _or_raise(self._write([[Delete(path, version)]])[0])

    def multi(self, ops: Sequence[Op]) -> list[OpResult]:
        return _or_raise(self._write([ops])[0])

    def multi_many(self, multis: Sequence[Sequence[Op]]) -> list[list[OpResult] | StoreError]:
        return self._write(multis)

    def _write(self, multis: Sequence[Sequence[Op]]) -> list[list[OpResult] | StoreError]:
        """What was lost with a connection is looked for, and done again when it is not there."""
        results: list[list[OpResult] | StoreError] = [[] for _ in multis]
        requests: dict[int, Request] = {}
        for number, ops in enumerate(multis):
            try:
                if ops:
                    requests[number] = self._order(ops)
            except NodeTooLarge as error:
                results[number] = error
        since = self._session.last_zxid
        todo = list(requests)
        for attempt in range(_MAX_LOSSES):
            if not todo:
                break
            answers = self._session.ask([requests[number] for number in todo], self._patience_ms)
            lost = []
            for number, answer in zip(todo, answers, strict=True):
                outcome = self._outcome(multis[number], answer)
                if attempt > 0 and isinstance(outcome, NoNode) and all_gone(self, multis[number]):
                    outcome = [None for _ in multis[number]]
                results[number] = outcome
                if isinstance(outcome, StoreError) and not _is_final(outcome, attempt):
                    lost.append(number)
            if lost:
                self._sync()
            todo = []
            for number in lost:
                done = find_out(self, multis[number], since)
                if done is None:
                    todo.append(number)
                else:
                    results[number] = done
        return results

    def _sync(self) -> None:
        """The server that we talk to now has everything that was done before."""
        self._read([Request(wire.Sync(self._session.full("/")), "/")], lambda _: None)

    def _order(self, ops: Sequence[Op]) -> Request:
        """Raises NodeTooLarge, and ValueError for what is no path."""
        for index, op in enumerate(ops):
            check_path(op.path)
            data = op.data if isinstance(op, Create | SetData) else None
            if data is not None and len(data) > MAX_NODE_BYTES:
                raise NodeTooLarge(op.path, index)
        if len(ops) == 1 and not isinstance(ops[0], Check):
            return Request(self._message(ops[0]), ops[0].path)
        message = wire.Transaction([self._message(op) for op in ops])
        if _is_large(ops) and len(message.serialize()) > _MAX_REQUEST_BYTES:
            raise NodeTooLarge(ops[0].path, 0)
        return Request(message, ops[0].path)

    def _message(self, op: Op) -> object:
        path = self._session.full(op.path)
        if isinstance(op, Create):
            flags = _EPHEMERAL * op.ephemeral | _SEQUENTIAL * op.sequential
            return wire.Create(path, op.data, OPEN_ACL_UNSAFE, flags)
        if isinstance(op, SetData):
            return wire.SetData(path, op.data, op.version)
        if isinstance(op, Delete):
            return wire.Delete(path, op.version)
        return wire.CheckVersion(path, op.version)

    def _outcome(self, ops: Sequence[Op], answer: object) -> list[OpResult] | StoreError:
        if isinstance(answer, Exception):
            return _error(answer, ops[0].path, 0)
        answers = answer if isinstance(answer, list) else [answer]
        for index, (op, each) in enumerate(zip(ops, answers, strict=False)):
            if isinstance(each, Exception) and not isinstance(each, zk.RolledBackError | zk.RuntimeInconsistency):
                return _error(each, op.path, index)
        return [self._result(op, each) for op, each in zip(ops, answers, strict=True)]

    def _result(self, op: Op, answer: object) -> OpResult:
        if isinstance(op, Create):
            assert isinstance(answer, str)
            return self._session.own(answer)
        return _as_stat(answer) if isinstance(op, SetData) else None

    def _make_chroot(self) -> None:
        """The path above everything, as Kafka makes it: persistent, without data."""
        chroot = self._session.chroot
        if self.exists("/") is not None:
            return
        ends = [at for at, letter in enumerate(chroot) if letter == "/"][1:]
        for path in [chroot[:end] for end in ends] + [chroot]:
            request = Request(wire.Create(path, None, OPEN_ACL_UNSAFE, 0), path)
            made = self._read([request], lambda _: None)[0]
            if made is not None and not isinstance(made, NodeExists):
                raise made


def _is_large(ops: Sequence[Op]) -> bool:
    """Perhaps too large for a request."""
    size = sum(4 * len(op.path) + 64 + len(getattr(op, "data", None) or b"") for op in ops)
    return size > _MAX_REQUEST_BYTES


def _error(error: Exception, path: str, index: int | None = None) -> StoreError:
    for theirs, ours in _ERRORS:
        if isinstance(error, theirs):
            return ours(path, index)
    if isinstance(error, zk.BadArgumentsError):
        raise ValueError(f"ZooKeeper does not take {path!r}") from error
    if isinstance(error, zk.UnimplementedError):
        return StoreFailed(f"{path} (this ZooKeeper is older than 3.6)", index)
    return StoreFailed(f"{path} ({type(error).__name__})", index)


def _is_final(error: StoreError, attempt: int) -> bool:
    return attempt + 1 == _MAX_LOSSES or not isinstance(error, ConnectionLoss)


def _or_raise(result: T | StoreError) -> T:
    if isinstance(result, StoreError):
        raise result
    return result


def _as_stat(answer: object) -> Stat:
    """From kazoo's ZnodeStat, which has the version of the ACL elsewhere."""
    fields = cast("tuple[int, ...]", answer)
    return Stat._make((*fields[:6], *fields[7:], fields[6]))


def _as_stat_or_none(answer: object) -> Stat | None:
    return None if answer is None else _as_stat(answer)


def _as_read(answer: object) -> Read:
    data, stat = cast("tuple[bytes | None, object]", answer)
    return data, _as_stat(stat)


def _as_list(answer: object) -> list[object]:
    return cast("list[object]", answer)


def _as_names(answer: object) -> list[str]:
    return sorted(cast("list[str]", answer))
