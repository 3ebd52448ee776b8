"""API key → handler: the one place where a request becomes a call and an exception becomes an error code.

What stays true:
- a request that is served gets exactly one answer, or its connection is closed; a handler that answers later returns
  None and the answer goes through `Apis.reply`;
- a handler's `KafkaError` is answered with its code, any other exception with UNKNOWN_SERVER_ERROR, logged with its
  traceback and counted (`failures`): it never reaches the loop; where no answer can be made any more, because that is
  what failed, the connection is closed: nobody waits for what does not come;
- a client's request that has to wait for ZooKeeper is refused with REQUEST_TIMED_OUT after request.timeout.ms, and not
  begun after that; one that was begun may be carried out all the same;
- a version outside the served range, an unknown key and a body that does not decode close the connection, as Kafka
  does, except ApiVersions, which answers UNSUPPORTED_VERSION in its version 0.

Handlers are modules of `handlers/`, one per API family, imported at the first request of their family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cluster.protocol.api_keys import ApiKey
from cluster.protocol.errors import DecodeError
from cluster.protocol.served import SERVED, request_header_version, response_header_version
from cluster.protocol.wire import skip_tags
from pylog.errors import ErrorCode, KafkaError
from pylog.facts import NamedTuple
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from cluster.broker.broker import Broker
    from pylog._engine import Engine, Upcall

#: What a generated message is to this file: something with `encode`. The classes are typed in messages.pyi.
Message: TypeAlias = Any


class ReplyTo(NamedTuple):
    """Where an answer goes, and how it is encoded."""

    conn: int
    slot: int
    correlation_id: int
    api_key: int
    api_version: int
    generation: int


class ReplyHere(NamedTuple):
    """The answer is for this broker itself."""

    then: Callable[[Message], None]


class Request(NamedTuple):
    """A decoded request and all that a handler may want to know about where it came from."""

    reply_to: ReplyTo
    api_version: int
    client_id: str | None
    listener_id: int
    message: Message


class Answer(NamedTuple):
    """An answer that the data plane may give again to the same bytes until metadata change."""

    message: Message


class Held(NamedTuple):
    """An answer that is given when nothing is `missing` any more. At the deadline `late` is told what is, and changes
    the answer. Control thread, both."""

    message: Message
    missing: Callable[[], list[str]]
    timeout_ms: int
    late: Callable[[list[str]], None]


class Handler(NamedTuple):
    """`serve` returns the answer, or None when it comes later. `refuse` builds the answer that says one error for
    all. `tree`: it asks the metadata tree; where that is on other machines it is served on a thread that may wait.
    `controller`: a client asks it of the controller, which may have to wait for the tree."""

    decode: Callable[[bytes, int, int, bool], Message]
    serve: Callable[[Broker, Request], Message | Answer | Held | None]
    refuse: Callable[[Request, int], Message]
    tree: bool = False
    controller: bool = False


class OverdueKey(NamedTuple):
    """The timer of a request that waits for the tree."""

    reply_to: ReplyTo


_NO_TAGS: Final = b"\0"

#: What a broker of a cluster serves before a controller has told it of anything. Whatever else it answered would be of
#: a cluster without topics.
_BEFORE_METADATA: Final = frozenset(
    {
        ApiKey.API_VERSIONS,
        ApiKey.LEADER_AND_ISR,
        ApiKey.STOP_REPLICA,
        ApiKey.UPDATE_METADATA,
        ApiKey.CONTROLLED_SHUTDOWN,
        ApiKey.ALTER_PARTITION,
        ApiKey.ALLOCATE_PRODUCER_IDS,
    }
)


def _family(key: ApiKey) -> Mapping[ApiKey, Handler]:
    """The handlers of the family that key belongs to. One import per family, when it is first needed."""
    if key is ApiKey.API_VERSIONS:
        from cluster.broker.handlers import api_versions as module
    elif key in (ApiKey.METADATA, ApiKey.DESCRIBE_CLUSTER, ApiKey.DESCRIBE_TOPIC_PARTITIONS):
        from cluster.broker.handlers import metadata as module  # type: ignore[no-redef]
    elif key in (ApiKey.CREATE_TOPICS, ApiKey.DELETE_TOPICS, ApiKey.CREATE_PARTITIONS):
        from cluster.broker.handlers import topics as module  # type: ignore[no-redef]
    elif key in (ApiKey.DESCRIBE_CONFIGS, ApiKey.ALTER_CONFIGS, ApiKey.INCREMENTAL_ALTER_CONFIGS):
        from cluster.broker.handlers import configs as module  # type: ignore[no-redef]
    elif key in (ApiKey.LIST_OFFSETS, ApiKey.OFFSET_FOR_LEADER_EPOCH, ApiKey.DELETE_RECORDS):
        from cluster.broker.handlers import offsets as module  # type: ignore[no-redef]
    elif key in (
        ApiKey.ADD_PARTITIONS_TO_TXN,
        ApiKey.ADD_OFFSETS_TO_TXN,
        ApiKey.END_TXN,
        ApiKey.WRITE_TXN_MARKERS,
        ApiKey.DESCRIBE_TRANSACTIONS,
        ApiKey.LIST_TRANSACTIONS,
    ):
        from cluster.broker.handlers import transactions as module  # type: ignore[no-redef]
    elif key in (ApiKey.INIT_PRODUCER_ID, ApiKey.DESCRIBE_PRODUCERS):
        from cluster.broker.handlers import producers as module  # type: ignore[no-redef]
    elif key in (ApiKey.DESCRIBE_LOG_DIRS, ApiKey.ALTER_REPLICA_LOG_DIRS):
        from cluster.broker.handlers import log_dirs as module  # type: ignore[no-redef]
    elif key in (ApiKey.ALTER_PARTITION_REASSIGNMENTS, ApiKey.LIST_PARTITION_REASSIGNMENTS):
        from cluster.broker.handlers import reassignments as module  # type: ignore[no-redef]
    elif key in (ApiKey.LEADER_AND_ISR, ApiKey.STOP_REPLICA, ApiKey.UPDATE_METADATA):
        from cluster.broker.handlers import replication as module  # type: ignore[no-redef]
    elif key in (
        ApiKey.ALTER_PARTITION,
        ApiKey.CONTROLLED_SHUTDOWN,
        ApiKey.ALLOCATE_PRODUCER_IDS,
        ApiKey.ELECT_LEADERS,
    ):
        from cluster.broker.handlers import controller as module  # type: ignore[no-redef]
    else:
        from cluster.broker.handlers import groups as module  # type: ignore[no-redef]
    return module.HANDLERS


class Apis:
    """Decodes, dispatches, encodes. Control thread."""

    def __init__(self, broker: Broker, engine: Engine) -> None:
        self._broker = broker
        self._engine = engine
        self._handlers: dict[int, Handler] = {}
        self.served = {int(key): versions for key, versions in broker.served.items()}  # by number, as requests say it
        self._log = Logger(f"KafkaApi-{broker.broker_id}")
        self._awaited: dict[ReplyTo, tuple[Handler, Request]] = {}  # what waits for the tree; any thread takes out
        self.failures = 0
        self.malformed = 0

    def handle(self, upcall: Upcall) -> None:
        """Serve one request of the data plane."""
        try:
            self._take(upcall)
        except Exception:  # the edge, as in `serve`
            self._give_up(upcall.conn)

    def ending(self, conn: int, task: Callable[[], None]) -> None:
        """Run what a request on this connection waits for. If that fails there will be no answer, and the connection
        is closed. Any thread."""
        try:
            task()
        except Exception:
            self._give_up(conn)

    def _give_up(self, conn: int) -> None:
        """In an exception's handler."""
        self.failures += 1
        self._log.exception("closing connection: a request cannot be answered", conn=conn)
        self._engine.disconnect(conn)

    def _take(self, upcall: Upcall) -> None:
        key, version = upcall.api_key, upcall.api_version
        reply_to = ReplyTo(upcall.conn, upcall.slot, upcall.correlation_id, key, version, upcall.generation)
        if key == ApiKey.API_VERSIONS and version > SERVED[ApiKey.API_VERSIONS][1]:
            from cluster.broker.handlers.api_versions import unsupported

            self.reply(reply_to._replace(api_version=0), unsupported())
            return
        served = self.served.get(key)
        if served is None or not served[0] <= version <= served[1]:
            self._log.info("closing connection: version not served", api_key=key, api_version=version)
            self._engine.disconnect(upcall.conn)
            return
        handler = self._handlers.get(key)
        if handler is None:
            handler = self._handlers[key] = _family(ApiKey(key))[ApiKey(key)]
        try:
            body, start = upcall.body, 0
            if request_header_version(key, version) >= 2:
                start = 1 if body[:1] == _NO_TAGS else _behind_tags(body)
            message = handler.decode(body, version, start, False)  # Kafka too ignores bytes behind a request
        except DecodeError as error:
            self.malformed += 1
            self._log.info("closing connection: request does not decode", api_key=key, api_version=version, why=error)
            self._engine.disconnect(upcall.conn)
            return
        client_id = None if upcall.client_id is None else upcall.client_id.decode("utf-8", "replace")
        request = Request(reply_to, version, client_id, upcall.listener_id, message)
        member = self._broker.member
        if member is not None and key not in _BEFORE_METADATA:
            member.when_told(lambda: self._begin(handler, request))
        else:
            self._begin(handler, request)

    def _begin(self, handler: Handler, request: Request) -> None:
        member = self._broker.member
        if member is not None and (handler.tree or handler.controller):
            self._awaited[request.reply_to] = (handler, request)
            deadline_ms = self._broker.now_ms() + self._broker.config.int("request.timeout.ms")
            self._broker.loop.timers.set(OverdueKey(request.reply_to), deadline_ms)
        if member is not None and handler.tree:
            member.on_tree(lambda: self._serve_if_awaited(handler, request))
        else:
            self.serve(handler, request)

    def _serve_if_awaited(self, handler: Handler, request: Request) -> None:
        """A thread of the tree."""
        if request.reply_to in self._awaited:
            self.serve(handler, request)

    def overdue(self, key: OverdueKey) -> None:
        """A request has waited for as long as it may. Control thread."""
        awaited = self._awaited.pop(key.reply_to, None)
        if awaited is not None:
            handler, request = awaited
            self._log.warn("request refused: it waits for ZooKeeper", api_key=key.reply_to.api_key)
            refuse = handler.refuse
            self.ending(
                key.reply_to.conn,
                lambda: self.reply(key.reply_to, refuse(request, int(ErrorCode.REQUEST_TIMED_OUT))),
            )

    def serve(self, handler: Handler, request: Request) -> None:
        """Answer, whatever the handler meets; again, when what it lacked is there. The control thread, or one of the
        tree's."""
        try:
            answer = handler.serve(self._broker, request)
        except KafkaError as error:
            answer = handler.refuse(request, int(error.code))
        except Exception:  # the edge: a bug becomes an answer, a traceback in the log, and a count that tests look at
            self.failures += 1
            self._log.exception("request failed", api_key=request.reply_to.api_key, client_id=request.client_id)
            answer = handler.refuse(request, int(ErrorCode.UNKNOWN_SERVER_ERROR))
        self.give(request.reply_to, answer)

    def give(self, reply_to: ReplyTo, answer: Message | Answer | Held | None) -> None:
        """Answer now, or when the time has come. Any thread."""
        if answer is not None and self._awaited:
            self._awaited.pop(reply_to, None)
        if isinstance(answer, Answer):
            self.reply(reply_to, answer.message, cacheable=True)
        elif isinstance(answer, Held):
            self._broker.loop.post(lambda: self._hold(reply_to, answer))
        elif answer is not None:
            self.reply(reply_to, answer)

    def _hold(self, reply_to: ReplyTo, held: Held) -> None:
        """Give the answer when what it tells is known here. Control thread."""

        def tell(in_time: bool) -> None:
            if not in_time:
                held.late(held.missing())
            self.reply(reply_to, held.message)

        member = self._broker.joined()
        deadline_ms = self._broker.now_ms() + held.timeout_ms
        self.ending(
            reply_to.conn,
            lambda: member.waits.until(
                lambda: not held.missing(),
                deadline_ms,
                lambda in_time: self.ending(reply_to.conn, lambda: tell(in_time)),
            ),
        )

    def reply(self, reply_to: ReplyTo, message: Message, cacheable: bool = False) -> None:
        """Encode and hand to the data plane. A connection that is gone is nobody's fault. Any thread."""
        try:
            data = _encoded(reply_to, message)
            self._engine.answer(reply_to.conn, reply_to.slot, data, cacheable, reply_to.generation)
        except Exception:  # an answer that is no answer
            self._give_up(reply_to.conn)

    def reply_soon(self, reply_to: ReplyTo, message: Message) -> None:
        """The same for one of many answers of a turn: they may go out together. Control thread."""
        try:
            self._engine.answer_soon(reply_to.conn, reply_to.slot, _encoded(reply_to, message))
        except Exception:  # an answer that is no answer
            self._give_up(reply_to.conn)


def _encoded(reply_to: ReplyTo, message: Message) -> bytes:
    """With its header."""
    header = reply_to.correlation_id.to_bytes(4, "big", signed=True)
    if response_header_version(reply_to.api_key, reply_to.api_version) >= 1:
        header += b"\0"
    data: bytes = header + message.encode(reply_to.api_version)
    return data


def _behind_tags(body: bytes) -> int:
    """Where the message starts behind the tagged fields of a flexible request header. Raises DecodeError."""
    try:
        return skip_tags(body, 1, body[0], len(body))
    except IndexError:
        raise DecodeError("the tagged fields of the request header are cut short") from None
