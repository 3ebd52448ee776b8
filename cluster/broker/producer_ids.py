"""Producer ids: handed out from blocks of a thousand that the metadata tree accounts for.

What stays true: an id is given once in the life of a cluster. A block is written to `/latest_producer_id_block`, by
compare-and-set, before any of its ids is used; ids of a block that was not used up are lost at a restart, as in Kafka.
In a cluster the controller does that (AllocateProducerIds, KIP-730).
"""

from __future__ import annotations

from cluster.metadata.paths import LATEST_PRODUCER_ID_BLOCK, ProducerIdBlock
from cluster.metadata.store import BadVersion
from pylog.errors import ErrorCode, KafkaError
from pylog.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster.broker.apis import Message
    from cluster.metadata.store import Store

BLOCK_SIZE: Final = 1000
_LAST: Final = 2**63 - 1
_FEW: Final = BLOCK_SIZE // 10


class ProducerIds:
    """Control thread."""

    __slots__ = ("_broker_id", "_end", "_next", "_store")

    def __init__(self, store: Store, broker_id: int) -> None:
        self._store = store
        self._broker_id = broker_id
        self._next = 0
        self._end = 0

    def next(self) -> int:
        """One id. Raises what the store raises when a new block cannot be written."""
        if self._next == self._end:
            self._next = self._reserve()
            self._end = self._next + BLOCK_SIZE
        given = self._next
        self._next += 1
        return given

    def skip(self, used: int) -> None:
        """Ids up to this one were given by somebody whose account is lost: a log in an adopted directory has them."""
        if used >= self._next:
            self._next = self._reserve(used + 1)
            self._end = self._next + BLOCK_SIZE

    def _reserve(self, at_least: int = 0) -> int:
        while True:
            data, stat = self._store.get(LATEST_PRODUCER_ID_BLOCK)
            block = ProducerIdBlock.decode(data) if data else None
            start = max(0 if block is None else block.end + 1, at_least)
            if start > _LAST - BLOCK_SIZE:
                raise OverflowError("all producer ids of this cluster are used up")
            fresh = ProducerIdBlock(self._broker_id, start, start + BLOCK_SIZE - 1)
            try:
                self._store.set(LATEST_PRODUCER_ID_BLOCK, fresh.encode(), stat.version)
            except BadVersion:
                continue  # another broker took the block between our read and our write
            return start


class RpcProducerIds:
    """Blocks from the controller. The next one is asked for before the last is used up; until the first has come nobody
    gets an id. Control thread."""

    __slots__ = ("_ask", "_asked", "_broker_epoch", "_broker_id", "_end", "_next", "_spare")

    def __init__(
        self,
        broker_id: int,
        broker_epoch: Callable[[], int],
        ask: Callable[[Message, type[Message], Callable[[Message], None], tuple[int, int]], None],
    ) -> None:
        """`ask`: passes a request on to the controller, and calls back with the answer on the control thread."""
        self._broker_id = broker_id
        self._broker_epoch = broker_epoch
        self._ask = ask
        self._asked = False
        self._next = 0
        self._end = 0
        self._spare: tuple[int, int] | None = None

    def next(self) -> int:
        """One id. Raises COORDINATOR_LOAD_IN_PROGRESS while there is none: the client asks again."""
        if self._next == self._end and self._spare is not None:
            (self._next, self._end), self._spare = self._spare, None
        if self._end - self._next <= _FEW and self._spare is None:
            self._fetch()
        if self._next == self._end:
            raise KafkaError(ErrorCode.COORDINATOR_LOAD_IN_PROGRESS)
        given = self._next
        self._next += 1
        return given

    def _fetch(self) -> None:
        if self._asked:
            return
        from cluster.protocol.messages import AllocateProducerIdsRequest, AllocateProducerIdsResponse

        self._asked = True
        request = AllocateProducerIdsRequest(broker_id=self._broker_id, broker_epoch=self._broker_epoch())
        self._ask(request, AllocateProducerIdsResponse, self._fetched, (0, 0))

    def _fetched(self, answer: Message) -> None:
        self._asked = False
        if answer.error_code == ErrorCode.NONE and answer.producer_id_len > 0:
            self._spare = (answer.producer_id_start, answer.producer_id_start + answer.producer_id_len)
