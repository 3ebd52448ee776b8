"""pylog: an embeddable, durable, partitioned commit log in Apache Kafka's files.

Keeps true: importing it costs next to nothing; a name is loaded when it is first used. What the package does is per
batch in C and per segment here; no module of it opens a socket or talks to ZooKeeper. Any thread may enter; what a
class asks of its callers' threads its docstring says.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pylog.clock import Clock, ManualClock, SystemClock
    from pylog.compression import Codec
    from pylog.config import LogConfig
    from pylog.data_dir import DirectoryInUse
    from pylog.dump import Dump, DumpOptions, Problem
    from pylog.errors import ErrorCode, KafkaError
    from pylog.files import CorruptFileError
    from pylog.log import Log
    from pylog.log_manager import LogManager, LogManagerConfig
    from pylog.maintenance import Maintenance
    from pylog.records import Header, NewRecord, Record, RecordBatch, RecordBatchBuilder, batches
    from pylog.types import TopicPartition

__version__ = "0.1.0"

_HOME = {
    "Clock": "clock",
    "Codec": "compression",
    "CorruptFileError": "files",
    "DirectoryInUse": "data_dir",
    "Dump": "dump",
    "DumpOptions": "dump",
    "ErrorCode": "errors",
    "Header": "records",
    "KafkaError": "errors",
    "Log": "log",
    "LogConfig": "config",
    "LogManager": "log_manager",
    "LogManagerConfig": "log_manager",
    "Maintenance": "maintenance",
    "ManualClock": "clock",
    "NewRecord": "records",
    "Problem": "dump",
    "Record": "records",
    "RecordBatch": "records",
    "RecordBatchBuilder": "records",
    "SystemClock": "clock",
    "TopicPartition": "types",
    "batches": "records",
}

__all__ = [
    "Clock",
    "Codec",
    "CorruptFileError",
    "DirectoryInUse",
    "Dump",
    "DumpOptions",
    "ErrorCode",
    "Header",
    "KafkaError",
    "Log",
    "LogConfig",
    "LogManager",
    "LogManagerConfig",
    "Maintenance",
    "ManualClock",
    "NewRecord",
    "Problem",
    "Record",
    "RecordBatch",
    "RecordBatchBuilder",
    "SystemClock",
    "TopicPartition",
    "batches",
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
