"""What goes wrong in a store, each kind a class of its own.

Keeps true: every one is a KafkaError, so `except KafkaError` catches them all and `.code` is what a broker would have
answered; what the operating system says (a full disk, missing rights) stays an OSError.
"""

from __future__ import annotations

from pylog._columns import CLOSED
from pylog._native import NativeError, check
from pylog.errors import ErrorCode, KafkaError


class StoreError(KafkaError):
    """The base of what a store refuses."""

    code_of_class = ErrorCode.UNKNOWN_SERVER_ERROR

    def __init__(self, message: str, code: ErrorCode | None = None) -> None:
        super().__init__(self.code_of_class if code is None else code, message)


class StoreClosedError(StoreError):
    """The store was closed, or its directory failed; `str()` says which."""

    code_of_class = ErrorCode.KAFKA_STORAGE_ERROR


class StorageFailedError(StoreError):
    """The directory's disk failed. Nothing is written to it any more, and what was not synced may be lost."""

    code_of_class = ErrorCode.KAFKA_STORAGE_ERROR


class UnknownTopicError(StoreError):
    """There is no such topic or partition."""

    code_of_class = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


class TopicExistsError(StoreError):
    """The topic is there already."""

    code_of_class = ErrorCode.TOPIC_ALREADY_EXISTS


class InvalidTopicError(StoreError):
    """No topic can have this name, number of partitions or setting."""

    code_of_class = ErrorCode.INVALID_TOPIC_EXCEPTION


class OffsetOutOfRangeError(StoreError):
    """The offset is not in the log: below its start (retention went over it), above its end, or cut off."""

    code_of_class = ErrorCode.OFFSET_OUT_OF_RANGE

    def __init__(self, message: str, *, earliest: int, latest: int | None = None) -> None:
        """earliest: where the log starts. latest: where it ends, None when that was not looked up."""
        super().__init__(message)
        self.earliest = earliest
        self.latest = latest


class DamagedLogError(StoreError):
    """A batch in the middle of the log is not what was written: its CRC is wrong, or its records break the format."""

    code_of_class = ErrorCode.CORRUPT_MESSAGE

    def __init__(self, message: str, *, file: str, position: int, code: ErrorCode | None = None) -> None:
        """file: the .log file's path. position: of the batch in it, in bytes."""
        super().__init__(message, code)
        self.file = file
        self.position = position


class RecordTooLargeError(StoreError):
    """A record is larger than max.message.bytes, or a batch larger than a segment. Nothing of it was written."""

    code_of_class = ErrorCode.MESSAGE_TOO_LARGE


class InvalidRecordError(StoreError):
    """A record that the topic does not take: without key where they are compacted, or with an impossible time."""

    code_of_class = ErrorCode.INVALID_RECORD


class TransactionError(StoreError):
    """The transaction has ended, or cannot do this."""

    code_of_class = ErrorCode.INVALID_TXN_STATE


class ReadOnlyError(StoreError):
    """The store was opened for reading."""

    code_of_class = ErrorCode.INVALID_REQUEST


_BY_CODE: dict[int, type[StoreError]] = {
    ErrorCode.MESSAGE_TOO_LARGE: RecordTooLargeError,
    ErrorCode.RECORD_LIST_TOO_LARGE: RecordTooLargeError,
    ErrorCode.INVALID_RECORD: InvalidRecordError,
    ErrorCode.INVALID_TIMESTAMP: InvalidRecordError,
}


def append_error(code: int, what: str) -> Exception:
    """The exception for what an appender answered. what: the partition."""
    if code == CLOSED:
        return StoreClosedError(f"{what}: the store is closed")
    try:
        check(code, what)
    except OSError as e:
        return e
    except KafkaError as e:
        kind = _BY_CODE.get(e.code)
        return e if kind is None else kind(e.message, e.code)
    except NativeError as e:
        return e
    return RuntimeError(f"{what}: an append failed without a reason")
