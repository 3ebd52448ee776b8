"""Codecs: Kafka's names, round trips, limits."""

import pytest

from pylog.compression import Codec, codec_named, compress, decompress
from pylog.errors import ErrorCode, KafkaError

DATA = b"the same few words again and again, " * 500


def test_names() -> None:
    assert [codec_named(name) for name in ("none", "gzip", "snappy", "lz4", "zstd", "uncompressed")] == [
        *Codec,
        Codec.NONE,
    ]
    for name in ("producer", "", "GZIP", "brotli"):
        with pytest.raises(ValueError, match="none, gzip, snappy, lz4, zstd, uncompressed"):
            codec_named(name)


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("data", [b"", b"x", DATA])
def test_round_trip(codec: Codec, data: bytes) -> None:
    packed = compress(codec, data)
    assert decompress(codec, packed) == data
    if codec and data is DATA:
        assert len(packed) < len(data) / 4


@pytest.mark.parametrize("codec", [c for c in Codec if c])
def test_nothing_is_taken_on_the_datas_word(codec: Codec) -> None:
    packed = compress(codec, DATA)
    assert decompress(codec, packed, len(DATA)) == DATA
    with pytest.raises(KafkaError) as caught:
        decompress(codec, packed, len(DATA) - 1)
    assert caught.value.code == ErrorCode.MESSAGE_TOO_LARGE
    with pytest.raises(KafkaError) as caught:
        decompress(codec, b"\xff" * 40)
    assert caught.value.code == ErrorCode.CORRUPT_MESSAGE
