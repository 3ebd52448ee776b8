"""The transaction coordinator wired: its settings, its requests, and what it asks of the world.

What stays true: a coordinator's questions are looked into, and it hears the answers, when its effects are carried out,
never in the middle of them; but where all is on this broker that is in the same turn, so that whoever is told that a
transaction is over, and asks for the next one at once, finds it over. Control thread.
"""

from __future__ import annotations

from collections.abc import Hashable

from cluster.broker.apis import Request
from cluster.broker.marker_log import MarkerLog
from cluster.broker.transaction_markers import TransactionMarkers
from cluster.broker.transaction_verifier import TransactionVerifier
from cluster.coordinator.context import RequestContext, Topics
from cluster.coordinator.questions import NewProducerId, WriteMarkers
from cluster.coordinator.runtime import AskKey, Runtime
from cluster.coordinator.transaction_config import TransactionConfig
from cluster.coordinator.transaction_kind import TransactionKind
from cluster.protocol.served import NEWEST_TRANSACTION_VERSION
from pylog.errors import ErrorCode, KafkaError
from pylog.logger import Logger
from pylog.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.broker.broker import Broker


def transaction_kind(broker: Broker, topics: Topics) -> TransactionKind:
    config = broker.config
    return TransactionKind(
        TransactionConfig(
            max_timeout_ms=config.int("transaction.max.timeout.ms"),
            id_expiration_ms=config.int("transactional.id.expiration.ms"),
            abort_interval_ms=config.int("transaction.abort.timed.out.transaction.cleanup.interval.ms"),
            expiry_interval_ms=config.int("transaction.remove.expired.transaction.cleanup.interval.ms"),
            transaction_topic_partitions=config.int("transaction.state.log.num.partitions"),
            offsets_topic_partitions=config.int("offsets.topic.num.partitions"),
            transaction_version=0 if broker.clustered else NEWEST_TRANSACTION_VERSION,
            write_timeout_ms=config.int("request.timeout.ms"),
        ),
        topics,
    )


class Transactions:
    def __init__(self, broker: Broker, runtime: Runtime, log: MarkerLog) -> None:
        self._broker = broker
        self._runtime = runtime
        self._markers = TransactionMarkers(broker, log, self._tell)
        self.verifier = TransactionVerifier(broker, runtime)
        self._log = Logger(f"TransactionCoordinator {broker.broker_id}")

    def serve(self, request: Request) -> None:
        """Answered by the effects, now or when the records that it makes are committed."""
        broker = self._broker
        broker.loop.apply(self._runtime.request(None, context(request), request.message, broker.now_ms()))

    def ask(self, key: AskKey, question: object) -> None:
        if isinstance(question, NewProducerId):
            self._tell(key, self._new_producer_id())
        else:
            assert isinstance(question, WriteMarkers)
            asked = question
            self._broker.loop.soon(lambda: self._markers.begin(key, asked))

    def cancel_ask(self, key: Hashable) -> None:
        self._markers.cancel(key)

    def timer(self) -> None:
        self._markers.retry()

    def stop(self) -> None:
        self._markers.stop()
        self.verifier.stop()

    def _new_producer_id(self) -> int | ErrorCode:
        try:
            return self._broker.producer_ids.next()
        except KafkaError as error:
            return error.code
        except Exception:  # whoever waits for the id is to be told, and the transactional id is not to stay busy
            self._log.exception("no producer id")
            return ErrorCode.UNKNOWN_SERVER_ERROR

    def _tell(self, key: Hashable, answer: object) -> None:
        loop = self._broker.loop
        assert isinstance(key, AskKey)
        asker = key
        loop.soon(lambda: loop.apply(self._runtime.told(asker, answer, self._broker.now_ms())))


def context(request: Request) -> RequestContext:
    to = request.reply_to
    return RequestContext(to, to.api_key, to.api_version, request.client_id or "")
