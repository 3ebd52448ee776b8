r"""How consumed records look: a format such as `%t-%p @%o: %k=%v\n`, or lines of JSON.

What it keeps true: text formats copy keys and values byte for byte. In JSON a key, value or header that is not UTF-8
becomes {"base64": "..."}, so that every record survives `pylog consume --json | pylog produce --json`.
"""

from __future__ import annotations

import argparse
import json
from base64 import b64encode
from collections.abc import Callable, Iterable

from cluster.cli.arguments import escaped
from cluster.cli.offsets import TopicPartition
from pylog.records import Record

Renderer = Callable[[TopicPartition, Iterable[Record]], bytes]
_Piece = Callable[[TopicPartition, Record], bytes]

DEFAULT_FORMAT = r"%v\n"
_NULL = b"null"

TOKENS = "%t topic, %p partition, %o offset, %T timestamp in ms, %k key, %v value, %h headers, %% a per cent sign"
_PIECES: dict[str, _Piece] = {
    "t": lambda tp, record: tp.topic.encode(),
    "p": lambda tp, record: b"%d" % tp.partition,
    "o": lambda tp, record: b"%d" % record.offset,
    "T": lambda tp, record: b"%d" % record.timestamp,
    "k": lambda tp, record: _NULL if record.key is None else record.key,
    "v": lambda tp, record: _NULL if record.value is None else record.value,
    "h": lambda tp, record: b",".join(
        name.encode("utf-8", "surrogateescape") + b"=" + (_NULL if value is None else value)
        for name, value in record.headers
    ),
    "%": lambda tp, record: b"%",
}


def add_form(parser: argparse.ArgumentParser) -> None:
    """The options of which one renders: see `chosen_form`."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "-F",
        "--format",
        type=text_renderer,
        default=text_renderer(DEFAULT_FORMAT),
        metavar="TEXT",
        help=f"default: {DEFAULT_FORMAT}; {TOKENS}".replace("%", "%%"),
    )
    form.add_argument("-J", "--json", action="store_true", help="a line of JSON for each record")


def chosen_form(options: argparse.Namespace) -> Renderer:
    """Of options that `add_form` has added."""
    renderer: Renderer = render_json if options.json else options.format
    return renderer


def text_renderer(text: str) -> Renderer:
    """The renderer for a format string. Raises argparse.ArgumentTypeError."""
    if text == DEFAULT_FORMAT:
        return _render_values
    pieces: list[_Piece] = []
    literal, *rest = text.split("%")
    if literal:
        pieces.append(_constant(literal))
    words = iter(rest)
    for word in words:
        token, literal = word[:1], word[1:]
        if not word:  # two per cent signs: what stands behind them is the next word
            token, literal = "%", next(words, "")
        if token not in _PIECES:
            raise argparse.ArgumentTypeError(f"there is no %{token}; there are {TOKENS}")
        pieces.append(_PIECES[token])
        if literal:
            pieces.append(_constant(literal))

    def render(tp: TopicPartition, records: Iterable[Record]) -> bytes:
        return b"".join([piece(tp, record) for record in records for piece in pieces])

    return render


def _constant(text: str) -> _Piece:
    data = escaped(text)
    return lambda tp, record: data


def _render_values(tp: TopicPartition, records: Iterable[Record]) -> bytes:
    """The default format, without a call per record."""
    values = [_NULL if record.value is None else record.value for record in records]
    values.append(b"")
    return b"\n".join(values)


def render_json(tp: TopicPartition, records: Iterable[Record]) -> bytes:
    """A line of JSON for each record."""
    return b"".join([_json_line(tp, record) for record in records])


def _json_line(tp: TopicPartition, record: Record) -> bytes:
    fields = {
        "topic": tp.topic,
        "partition": tp.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": _json_value(record.key),
        "value": _json_value(record.value),
    }
    if record.headers:
        fields["headers"] = [[name, _json_value(value)] for name, value in record.headers]
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    # A byte of a header's name that is not UTF-8 is a lone surrogate here, and becomes JSON's escape for it.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _json_value(data: bytes | None) -> str | dict[str, str] | None:
    if data is None:
        return None
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(data).decode()}
