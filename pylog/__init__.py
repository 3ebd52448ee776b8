"""pylog: an embeddable, durable, partitioned commit log in Apache Kafka's files.

Keeps true: importing it costs next to nothing; a name is loaded when it is first used. What the package does is per
batch in C and per segment here; no module of it opens a socket or talks to ZooKeeper. Any thread may enter; what a
class asks of its callers' threads its docstring says.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pylog.clock import Clock, ManualClock, SystemClock
    from pylog.column_input import Packed
    from pylog.columns import BytesColumn, Columns
    from pylog.compression import Codec
    from pylog.config import LogConfig
    from pylog.data_dir import DirectoryInUse
    from pylog.dump import Dump, DumpOptions, Problem
    from pylog.errors import ErrorCode, KafkaError
    from pylog.files import CorruptFileError
    from pylog.log import Log
    from pylog.log_manager import LogManager, LogManagerConfig
    from pylog.maintenance import Maintenance
    from pylog.mapped import MappedBatch, RecordView
    from pylog.partition import Partition
    from pylog.partition_reader import PartitionReader
    from pylog.position import Position
    from pylog.reader import PolledRecord, Reader
    from pylog.record import NewRecord, Record
    from pylog.records import Header, RecordBatch, RecordBatchBuilder, batches
    from pylog.serde import Serde, TypedPartition, TypedReader, TypedRecord
    from pylog.store import Store, StoreReader, open
    from pylog.store_errors import (
        DamagedLogError,
        InvalidRecordError,
        InvalidTopicError,
        OffsetOutOfRangeError,
        ReadOnlyError,
        RecordTooLargeError,
        StorageFailedError,
        StoreClosedError,
        StoreError,
        TopicExistsError,
        TransactionError,
        UnknownTopicError,
    )
    from pylog.topic import Topic, TopicReader
    from pylog.transaction import Transaction
    from pylog.types import TopicPartition

__version__ = "0.1.0"

_HOME = {
    "BytesColumn": "columns",
    "Clock": "clock",
    "Codec": "compression",
    "Columns": "columns",
    "CorruptFileError": "files",
    "DamagedLogError": "store_errors",
    "DirectoryInUse": "data_dir",
    "Dump": "dump",
    "DumpOptions": "dump",
    "ErrorCode": "errors",
    "Header": "records",
    "InvalidRecordError": "store_errors",
    "InvalidTopicError": "store_errors",
    "KafkaError": "errors",
    "Log": "log",
    "LogConfig": "config",
    "LogManager": "log_manager",
    "LogManagerConfig": "log_manager",
    "Maintenance": "maintenance",
    "ManualClock": "clock",
    "MappedBatch": "mapped",
    "NewRecord": "record",
    "OffsetOutOfRangeError": "store_errors",
    "Packed": "column_input",
    "Partition": "partition",
    "PartitionReader": "partition_reader",
    "PolledRecord": "reader",
    "Position": "position",
    "Problem": "dump",
    "ReadOnlyError": "store_errors",
    "Reader": "reader",
    "Record": "record",
    "RecordBatch": "records",
    "RecordBatchBuilder": "records",
    "RecordTooLargeError": "store_errors",
    "RecordView": "mapped",
    "Serde": "serde",
    "StorageFailedError": "store_errors",
    "Store": "store",
    "StoreClosedError": "store_errors",
    "StoreError": "store_errors",
    "StoreReader": "store",
    "SystemClock": "clock",
    "Topic": "topic",
    "TopicExistsError": "store_errors",
    "TopicPartition": "types",
    "TopicReader": "topic",
    "Transaction": "transaction",
    "TransactionError": "store_errors",
    "TypedPartition": "serde",
    "TypedReader": "serde",
    "TypedRecord": "serde",
    "UnknownTopicError": "store_errors",
    "batches": "records",
    "open": "store",
}

__all__ = [
    "BytesColumn",
    "Clock",
    "Codec",
    "Columns",
    "CorruptFileError",
    "DamagedLogError",
    "DirectoryInUse",
    "Dump",
    "DumpOptions",
    "ErrorCode",
    "Header",
    "InvalidRecordError",
    "InvalidTopicError",
    "KafkaError",
    "Log",
    "LogConfig",
    "LogManager",
    "LogManagerConfig",
    "Maintenance",
    "ManualClock",
    "MappedBatch",
    "NewRecord",
    "OffsetOutOfRangeError",
    "Packed",
    "Partition",
    "PartitionReader",
    "PolledRecord",
    "Position",
    "Problem",
    "ReadOnlyError",
    "Reader",
    "Record",
    "RecordBatch",
    "RecordBatchBuilder",
    "RecordTooLargeError",
    "RecordView",
    "Serde",
    "StorageFailedError",
    "Store",
    "StoreClosedError",
    "StoreError",
    "StoreReader",
    "SystemClock",
    "Topic",
    "TopicExistsError",
    "TopicPartition",
    "TopicReader",
    "Transaction",
    "TransactionError",
    "TypedPartition",
    "TypedReader",
    "TypedRecord",
    "UnknownTopicError",
    "batches",
    "open",
]


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
