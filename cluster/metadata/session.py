"""One session on a ZooKeeper ensemble: requests go out, answers and watch events come in.

What stays true:
- everything that comes in is taken by one thread, kazoo's, in the order in which the server sent it: a watch has fired
  before an answer is seen that could tell of the same change;
- a watch outlives a lost connection: it is set again on the next one, and fires if what it watches changed meanwhile;
- a session that is over stays over. kazoo would open another in its place; here whoever waits is told SessionExpired.

kazoo's public calls cannot say all of this (no null data, no watch that is set again, a queue of its own for watches),
so requests are given to it as its own calls give them: `_call`. Any thread may ask; functions that are called back run
on kazoo's thread and must only enqueue.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from kazoo.client import KazooClient
from kazoo.exceptions import EXCEPTIONS
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.serialization import (
    GetChildren,
    GetData,
    MultiHeader,
    int_struct,
    long_struct,
    read_buffer,
    read_string,
    stat_struct,
    write_string,
)
from kazoo.protocol.states import Callback, EventType, KazooState, ZnodeStat
from kazoo.retry import KazooRetry

from cluster.metadata.store import (
    CHANGED,
    CHILDREN,
    CREATED,
    DELETED,
    ConnectionLoss,
    SessionExpired,
    Watch,
    WatchEvent,
    check_path,
)
from pylog.facts import IntEnum, NamedTuple
from pylog.logger import Logger
from pylog.typed import Final

DEFAULT_PORT: Final = 2181
_FIRST_RETRY_S: Final = 0.05
_LAST_RETRY_S: Final = 1.0
_CLOSE_S: Final = 1.0
_MIN_ENTRIES: Final = 3
_SET_WATCHES_BYTES: Final = 128 << 10
_DATA, _ABSENT, _CHILDREN = range(3)  # what is watched, in the order of the request that sets watches
_KINDS: Final = {
    EventType.CREATED: CREATED,
    EventType.DELETED: DELETED,
    EventType.CHANGED: CHANGED,
    EventType.CHILD: CHILDREN,
}


class SessionState(IntEnum):
    """SUSPENDED: no server answers; the session may go on or be over, which is known when one answers again. EXPIRED:
    its ephemeral nodes are gone (or soon, if kazoo's thread died), and the store that had it works no more."""

    CONNECTED = 1
    SUSPENDED = 2
    EXPIRED = 3


class CannotConnect(ConnectionLoss):
    """No session could be had. `path` is what zookeeper.connect says; the text is a whole line."""

    def __init__(self, connect: str, timeout_ms: int, why: str) -> None:
        super().__init__(connect)
        self.why = why
        self.args = (f"{connect}: no ZooKeeper server answered within {timeout_ms / 1000:g} s ({why})",)


class Connect(NamedTuple):
    """zookeeper.connect: `servers` as host:port, and the path under which everything is, "" for the root."""

    servers: tuple[str, ...]
    chroot: str


def parse_connect(text: str) -> Connect:
    """`host[:port],...[/chroot]`. Raises ValueError with a sentence."""
    addresses, slash, below = text.strip().partition("/")
    chroot = (slash + below).rstrip("/")
    if chroot:
        check_path(chroot)
    servers = []
    for address in addresses.split(","):
        host, colon, port = address.strip().rpartition(":")
        if not colon or address.strip().endswith("]"):
            host, port = address.strip(), str(DEFAULT_PORT)
        if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
            raise ValueError(f"{address.strip()!r} is not host:port")
        servers.append(f"{host}:{port}")
    return Connect(tuple(servers), chroot)


class Request:
    """What to send, and the watch that goes with a read. `message`: one of kazoo's requests; `path`: without chroot."""

    __slots__ = ("is_children", "message", "path", "watch")

    def __init__(self, message: object, path: str, watch: Watch | None = None, *, is_children: bool = False) -> None:
        self.message = message
        self.path = path
        self.watch = watch
        self.is_children = is_children


class ManyReads(Request):
    """The data of many nodes in one request, each with a watch or none; the answer has an exception for one that is not
    there. The server sets no watches with this request, so that is done by another one behind it."""

    __slots__ = ("wanted",)

    def __init__(self, full_paths: Sequence[str], wanted: Sequence[tuple[str, Watch | None]]) -> None:
        super().__init__(_MultiRead([GetData(path, None) for path in full_paths]), wanted[0][0])
        self.wanted = wanted


class ManyLists(Request):
    """The names of the children of many nodes."""

    __slots__ = ("paths",)

    def __init__(self, full_paths: Sequence[str], paths: Sequence[str]) -> None:
        super().__init__(_MultiRead([GetChildren(path, None) for path in full_paths]), paths[0])
        self.paths = paths


class ZooKeeperSession:
    """`open` it, `ask`, `close`. `on_state`: told of every change of state, on kazoo's thread; of a close it is not."""

    def __init__(
        self, connect: str, session_timeout_ms: int, max_in_flight: int, on_state: Callable[[SessionState], None]
    ) -> None:
        """Raises ValueError for a `connect` that makes no sense."""
        self._connect = connect
        servers, self.chroot = parse_connect(connect)
        self._max_in_flight = max_in_flight
        self._on_state = on_state
        self._changed = threading.Condition()
        self._state: SessionState | None = None
        self._over = False
        self.session_id = 0
        self._log = Logger("ZooKeeper session")
        self._trouble = _Trouble(self._log)
        self._data: dict[str, list[Watch]] = {}  # of nodes that were there, those that were not, and children
        self._absent: dict[str, list[Watch]] = {}
        self._children: dict[str, list[Watch]] = {}
        self._unconfirmed: list[_WatchesSet] = []
        # kazoo gives each entry its part of the session timeout for an answer to the handshake. A server that is just
        # starting may take the connection and never answer, so there are some entries, however few servers there are.
        entries = servers * -(-_MIN_ENTRIES // len(servers))
        handler = _OneThread(session_timeout_ms / 1000 / len(entries))
        self._client = KazooClient(
            ",".join(entries),
            timeout=session_timeout_ms / 1000,
            handler=handler,
            connection_retry=KazooRetry(
                max_tries=-1, delay=_FIRST_RETRY_S, max_delay=_LAST_RETRY_S, sleep_func=handler.sleep_func
            ),
            logger=self._trouble.logger,
        )
        self._client.add_listener(self._state_changed)

    def open(self, timeout_ms: int) -> None:
        """Returns with a session. Raises CannotConnect."""
        self._client.start_async()
        with self._changed:
            if self._changed.wait_for(lambda: self._state is not None, timeout_ms / 1000):
                return
        why = self._trouble.last or "no answer"
        self.close()
        raise CannotConnect(self._connect, timeout_ms, why)

    @property
    def last_zxid(self) -> int:
        """Of the newest state of the tree that any answer told of."""
        return int(self._client.last_zxid)

    def full(self, path: str) -> str:
        """A path as the ensemble knows it."""
        if not self.chroot:
            return path
        return self.chroot if path == "/" else self.chroot + path

    def own(self, full_path: str) -> str:
        """A path of the ensemble as we know it."""
        return full_path[len(self.chroot) :] or "/"

    def ask(self, requests: Sequence[Request], patience_ms: int | None) -> list[object]:
        """The answer to each request, or the exception of kazoo's that came instead; as many as allowed are under way.

        Raises SessionExpired when the session ends before all are answered, ConnectionLoss when that takes longer than
        `patience_ms` (None: as long as the session may live).
        """
        deadline = None if patience_ms is None else time.monotonic() + patience_ms / 1000
        call = _Call(self._changed, len(requests))
        for number, request in enumerate(requests):
            self._wait(lambda: call.under_way < self._max_in_flight, deadline, request.path)
            with self._changed:
                call.under_way += 1
            self._client._call(request.message, _Answer(self, call, number, request))
        self._wait(lambda: call.under_way == 0, deadline, requests[-1].path if requests else "/")
        return call.answers

    def watcher(self, event: object) -> None:
        """What requests with a watch name as their watcher: passes an event on to those who asked for it."""
        kind = _KINDS.get(getattr(event, "type", None))
        if kind is None:
            return  # the connection was lost; the watches stay and are set again on the next one
        path = getattr(event, "path", "/")
        fired: list[Watch] = []
        for watches in (self._data, self._absent) if kind != CHILDREN else ():
            fired += watches.pop(path, ())
        if kind in (CHILDREN, DELETED):
            fired += [watch for watch in self._children.pop(path, ()) if watch not in fired]
        for watch in fired:
            self._deliver(watch, WatchEvent(kind, self.own(path)))

    def _deliver(self, watch: Watch, event: WatchEvent) -> None:
        try:
            watch(event)
        except Exception as error:  # it must not take kazoo's thread, and the session, with it
            self._log.error("a watch failed", path=event.path, error=repr(error))

    def close(self) -> None:
        """End the session, on the ensemble as well if a server can be reached. Whoever waits is told SessionExpired."""
        if not self._end():
            return
        if self._state == SessionState.CONNECTED:
            try:
                self._client.stop()
            except Exception as error:  # kazoo raises what it meets; the session then ends by its timeout
                self._log.warn("session was not closed in order", error=repr(error))
        self._client._stopped.set()  # a thread that is looking for a server gives up; it is not waited for
        if self._client._connection.connection_stopped.wait(_CLOSE_S):
            self._client.close()

    # ------------------------------------------------------------------------------------------------- inside

    def _wait(self, ready: Callable[[], bool], deadline: float | None, path: str) -> None:
        with self._changed:
            while not ready() and not self._over:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise ConnectionLoss(path)
                self._changed.wait(left)
            if self._over:
                raise SessionExpired(path)

    def _end(self) -> bool:
        """No more requests. False when that was so already."""
        with self._changed:
            if self._over:
                return False
            self._over = True
            self._changed.notify_all()
            return True

    def _state_changed(self, state: str) -> None:
        """On kazoo's thread."""
        if state == KazooState.LOST:
            ended = self._end()
            self._client._stopped.set()  # kazoo would go on with a new session
            for watches in (self._data, self._absent, self._children):
                watches.clear()
            if ended:
                self._tell(SessionState.EXPIRED)
        elif state == KazooState.SUSPENDED:
            self._tell(SessionState.SUSPENDED)
        else:
            self.session_id = self._client._session_id
            if self._state is not None:
                self._set_watches_again()
            self._tell(SessionState.CONNECTED)

    def _tell(self, state: SessionState) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()
            if self._over and state != SessionState.EXPIRED:
                return
        self._on_state(state)

    def remember(self, request: Request, answer: object) -> None:
        """A request was answered: its watches hold from now on. kazoo's thread, before it looks at what comes next."""
        if isinstance(request, ManyReads):
            assert isinstance(answer, list)
            self._watch_many(request, answer)
        elif request.watch is not None:
            if request.is_children:
                watches = self._children
            else:
                watches = self._data if answer is not None else self._absent
            _add(watches, self.full(request.path), request.watch)

    def _watch_many(self, request: ManyReads, answers: Sequence[object]) -> None:
        """Set the watches of nodes that were read just now. What changes before the server sets them fires at once."""
        watched = []
        for (path, watch), answer in zip(request.wanted, answers, strict=True):
            if watch is not None and not isinstance(answer, Exception):
                _add(self._data, self.full(path), watch)
                watched.append((_DATA, self.full(path)))
        self._set_watches(watched, self.last_zxid)

    def _set_watches_again(self) -> None:
        """What was watched before the connection was lost: the server compares it with the last zxid that we saw; an
        older one, when it was lost before the server had set watches that are younger."""
        zxid = min([self.last_zxid, *(each.zxid for each in self._unconfirmed)])
        self._unconfirmed.clear()
        kinds = ((_DATA, self._data), (_ABSENT, self._absent), (_CHILDREN, self._children))
        self._set_watches([(kind, path) for kind, watches in kinds for path in watches], zxid)

    def _set_watches(self, watched: Sequence[tuple[int, str]], zxid: int) -> None:
        client = self._client
        for kind, path in watched:
            (client._child_watchers if kind == _CHILDREN else client._data_watchers)[path].add(self.watcher)
        for chunk in _chunks(watched):
            confirmation = _WatchesSet(self._unconfirmed, zxid)
            self._unconfirmed.append(confirmation)
            client._call(_SetWatches(zxid, chunk), confirmation)


class _Call:
    """The requests of one `ask`."""

    __slots__ = ("answers", "changed", "under_way")

    def __init__(self, changed: threading.Condition, count: int) -> None:
        self.changed = changed
        self.answers: list[object] = [None] * count
        self.under_way = 0

    def answered(self, number: int, answer: object) -> None:
        with self.changed:
            self.answers[number] = answer
            self.under_way -= 1
            self.changed.notify_all()


class _Answer:
    """Where kazoo puts the answer to one request."""

    __slots__ = ("_call", "_number", "_request", "_session")

    def __init__(self, session: ZooKeeperSession, call: _Call, number: int, request: Request) -> None:
        self._session = session
        self._call: _Call | None = call
        self._number = number
        self._request = request

    def set(self, value: object) -> None:
        self._session.remember(self._request, value)
        self._answered(value)

    def set_exception(self, error: Exception) -> None:
        self._answered(error)

    def _answered(self, answer: object) -> None:
        """Once: kazoo tells of a closed connection more than once."""
        call, self._call = self._call, None
        if call is not None:
            call.answered(self._number, answer)


class _WatchesSet:
    """The answer to _SetWatches. When it is lost with the connection, the next one sets all watches again."""

    __slots__ = ("_unconfirmed", "zxid")

    def __init__(self, unconfirmed: list[_WatchesSet], zxid: int) -> None:
        self._unconfirmed = unconfirmed
        self.zxid = zxid

    def set(self, value: object) -> None:
        if self in self._unconfirmed:
            self._unconfirmed.remove(self)

    def set_exception(self, error: Exception) -> None:
        pass


class _SetWatches:
    """ZooKeeper's request 101, which kazoo does not have: watch again, and fire what changed since `zxid`."""

    type = 101

    def __init__(self, zxid: int, paths: Iterable[tuple[int, str]]) -> None:
        self._zxid = zxid
        self._paths: tuple[list[str], list[str], list[str]] = ([], [], [])
        for which, path in paths:
            self._paths[which].append(path)

    def serialize(self) -> bytes:
        parts = [long_struct.pack(self._zxid)]
        for paths in self._paths:
            parts.append(int_struct.pack(len(paths)))
            parts += map(write_string, paths)
        return b"".join(parts)

    @staticmethod
    def deserialize(data: bytes, offset: int) -> bool:
        return True


class _MultiRead:
    """ZooKeeper's request 22 (since 3.6), which kazoo does not have: several reads, each with its own outcome."""

    type = 22

    def __init__(self, reads: Sequence[GetData | GetChildren]) -> None:
        self._reads = reads

    def serialize(self) -> bytes:
        parts = [MultiHeader(read.type, False, -1).serialize() + read.serialize() for read in self._reads]
        return b"".join((*parts, MultiHeader(-1, True, -1).serialize()))

    @staticmethod
    def deserialize(data: bytes, offset: int) -> list[object]:
        found: list[object] = []
        while True:
            header, offset = MultiHeader.deserialize(data, offset)
            if header.done:
                return found
            if header.type == GetData.type:
                value, offset = read_buffer(data, offset)
                found.append((value, ZnodeStat._make(stat_struct.unpack_from(data, offset))))
                offset += stat_struct.size
            elif header.type == GetChildren.type:
                names = []
                (count,) = int_struct.unpack_from(data, offset)
                offset += int_struct.size
                for _ in range(count):
                    name, offset = read_string(data, offset)
                    names.append(name)
                found.append(names)
            else:
                found.append(EXCEPTIONS[int_struct.unpack_from(data, offset)[0]]())
                offset += int_struct.size


def _add(watches: dict[str, list[Watch]], path: str, watch: Watch) -> None:
    """The same watch set twice fires once."""
    entries = watches.setdefault(path, [])
    if watch not in entries:
        entries.append(watch)


def _chunks(paths: Sequence[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Of as many paths as go into one request."""
    chunk: list[tuple[int, str]] = []
    size = 0
    for which, path in paths:
        chunk.append((which, path))
        size += len(path.encode()) + 4
        if size > _SET_WATCHES_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


class _OneThread(SequentialThreadingHandler):  # type: ignore[misc]  # kazoo has no types
    """kazoo's handler without its threads for callbacks: they are called where they come up. A server that is not there
    (its machine is off) may take its part of the session timeout only, so that the others are tried before the end."""

    def __init__(self, connect_timeout_s: float) -> None:
        super().__init__()
        self._connect_timeout_s = connect_timeout_s

    def create_connection(self, *args: object, timeout: float, **options: object) -> object:
        return super().create_connection(*args, timeout=min(timeout, self._connect_timeout_s), **options)

    def start(self) -> None:
        self._running = True

    def stop(self) -> None:
        self._running = False

    def dispatch_callback(self, callback: Callback) -> None:
        callback.func(*callback.args)


class _Trouble(logging.Handler):
    """What kazoo has to say: the last warning is kept, as the reason when nobody answers; errors are ours to print."""

    def __init__(self, log: Logger) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self.last = ""
        self.logger = logging.Logger("zookeeper", logging.WARNING)
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno < logging.ERROR:
            self.last = text.rpartition(": ")[2].lower()
            return
        error = record.exc_info[1] if record.exc_info else None
        self._log.error("client failed", what=text, error=repr(error))
