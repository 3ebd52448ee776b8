"""Java's .properties text: the syntax of server.properties.

What stays true: `parse_properties` reads what java.util.Properties reads from the same bytes (Latin-1, `\\uXXXX` for
the rest): comments, continued lines, `=`, `:` or a blank after the key, escapes; of two equal keys the later wins.
"""

from collections.abc import Iterator

from pylog.config_value import ConfigError

_BLANKS = " \t\f"
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def parse_properties(data: bytes) -> dict[str, str]:
    """Raises ConfigError where an escape is broken."""
    settings: dict[str, str] = {}
    for line in _logical_lines(data.decode("latin-1")):
        key_end = _end_of_key(line)
        rest = line[key_end:].lstrip(_BLANKS)
        if rest[:1] in ("=", ":"):
            rest = rest[1:].lstrip(_BLANKS)
        settings[_unescape(line[:key_end])] = _unescape(rest)
    return settings


def _logical_lines(text: str) -> Iterator[str]:
    """Lines without comments, joined where a line ends in an odd number of backslashes."""
    pending: str | None = None
    for natural in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        line = natural.lstrip(_BLANKS)
        if not pending:  # also after a line that was nothing but a backslash
            if not line:
                continue
            if line[0] in "#!":
                pending = None
                continue
            pending = ""
        backslashes = len(line) - len(line.rstrip("\\"))
        if backslashes % 2:
            pending += line[:-1]
            continue
        yield pending + line
        pending = None
    if pending is not None:
        yield pending


def _end_of_key(line: str) -> int:
    i = 0
    while i < len(line) and line[i] not in "=: \t\f":
        i += 2 if line[i] == "\\" else 1
    return min(i, len(line))


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    out: list[str] = []
    i = 0
    while i < len(text):
        if text[i] != "\\":
            out.append(text[i])
            i += 1
            continue
        letter = text[i + 1 : i + 2]
        if letter == "u":
            digits = text[i + 2 : i + 6]
            if len(digits) != 4 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
                raise ConfigError(f"Malformed \\uxxxx encoding in {text!r}")
            out.append(chr(int(digits, 16)))
            i += 6
        else:
            out.append(_ESCAPES.get(letter, letter))
            i += 2
    # A character outside the first plane is written as two escapes, a surrogate pair.
    return "".join(out).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
