"""<offset>.snapshot: the producers a log knew just before an offset.

Keeps true: the bytes are Kafka's, CRC included; only the last batch of each producer is kept. The C log writes one at
each roll and at a clean close; here they are read and written for tools. A broken one raises CORRUPT_MESSAGE: the log
is then replayed from further back.
"""

from collections.abc import Sequence

from pylog._native import ProducerInfo, decode_snapshot, encode_snapshot
from pylog.errors import KafkaError
from pylog.files import read_file, replace_file

__all__ = ["ProducerInfo", "read_producer_snapshot", "write_producer_snapshot"]


def read_producer_snapshot(path: str) -> list[ProducerInfo]:
    """The producers in the file, in its order. Raises OSError, and CORRUPT_MESSAGE naming the file."""
    data = read_file(path)
    if data is None:
        raise FileNotFoundError(2, "no such snapshot", path)
    try:
        return decode_snapshot(data)
    except KafkaError as e:
        raise KafkaError(e.code, f"{path}: {e.message}") from None


def write_producer_snapshot(path: str, producers: Sequence[ProducerInfo]) -> None:
    """Replace the file durably. Raises OSError."""
    replace_file(path, encode_snapshot(list(producers)))
