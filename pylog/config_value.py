"""A configuration value: from text to a typed value and back, as Kafka reads and prints it.

What stays true: a text is accepted, and a refusal is worded, exactly as Apache Kafka 3.9 does it for the same key
(tests/golden/config holds some 35,000 answers of its own parser). Tables of keys name a type and a *rule* per key; both
are plain text, so that a table is constant data which costs nothing until a key is used:

    ">=N" "N..M"            a number in that range            "in:a,b"     one of these
    "list:a,b"              a list made of these only         "anycase:…"  one of these in any case
    "gzip" "pool"           1..9 or -1; -1 or above 0         "version"    a Kafka release such as 3.9 or 3.9-IV0
    "throttle"              "*" or partition:broker, …        "nonempty"   text that is not empty
"""

from __future__ import annotations

from pylog.facts import NamedTuple

Value = bool | int | float | str | tuple[str, ...] | None

# Config types as DescribeConfigs numbers them (KIP-569).
TYPE_CODES = {
    "boolean": 1,
    "string": 2,
    "int": 3,
    "short": 4,
    "long": 5,
    "double": 6,
    "list": 7,
    "class": 8,
    "password": 9,
}
_INTEGER_LIMITS = {"short": 1 << 15, "int": 1 << 31, "long": 1 << 63}

# What Java's String.trim takes off: everything up to the blank, and nothing else that Unicode calls a blank.
_JAVA_BLANKS = "".join(map(chr, range(0x21)))

# Sub-versions ("-IVn") of every release that changed something between brokers, up to the two 3.9 knows of 4.0.
_RELEASE_STEPS = {
    "0.8.0": 0, "0.8.1": 0, "0.8.2": 0, "0.9.0": 0, "0.10.0": 2, "0.10.1": 3, "0.10.2": 1, "0.11.0": 3, "1.0": 1,
    "1.1": 1, "2.0": 2, "2.1": 3, "2.2": 2, "2.3": 2, "2.4": 2, "2.5": 1, "2.6": 1, "2.7": 3, "2.8": 2, "3.0": 2,
    "3.1": 1, "3.2": 1, "3.3": 4, "3.4": 1, "3.5": 3, "3.6": 3, "3.7": 5, "3.8": 1, "3.9": 1, "4.0": 2,
}  # fmt: skip


class ConfigError(ValueError):
    """A setting that Kafka refuses. `str()` is Kafka's own sentence, one line."""


class ConfigEntry(NamedTuple):
    """One line of DescribeConfigs. `synonyms`: (name, value, source) from the one in force to the weakest.

    A sensitive value is None here already; nobody behind this point can leak it.
    """

    name: str
    value: str | None
    source: int
    read_only: bool
    sensitive: bool
    type_code: int
    synonyms: tuple[tuple[str, str | None, int], ...]


# Where a value comes from, as DescribeConfigs numbers it (KIP-226).
SOURCE_TOPIC = 1
SOURCE_DYNAMIC_BROKER = 2
SOURCE_DYNAMIC_DEFAULT = 3
SOURCE_STATIC = 4
SOURCE_DEFAULT = 5


def java_trim(text: str) -> str:
    return text.strip(_JAVA_BLANKS)


def parse_value(name: str, kind: str, rule: str | None, text: str) -> Value:
    """The typed value of `text` for the key `name`; raises ConfigError in Kafka's words."""
    value = _parse(name, kind, text)
    if rule is not None:
        _check(name, rule, value)
    return value


def show_value(value: Value) -> str | None:
    """The text by which Kafka shows a value; None stays None."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, float):
        return _show_double(value)
    return str(value)


def _refuse(name: str, value: object, reason: str) -> ConfigError:
    return ConfigError(f"Invalid value {value} for configuration {name}: {reason}")


def _parse(name: str, kind: str, text: str) -> Value:
    trimmed = java_trim(text)
    if kind in ("string", "class", "password"):
        return trimmed
    if kind == "list":
        return _split_list(trimmed)
    if kind == "boolean":
        lower = trimmed.lower()
        if lower not in ("true", "false"):
            raise _refuse(name, text, "Expected value to be either true or false")
        return lower == "true"
    number = _parse_double(trimmed) if kind == "double" else _parse_integer(trimmed, _INTEGER_LIMITS[kind])
    if number is None:
        raise _refuse(name, text, f"Not a number of type {kind.upper()}")
    return number


def _split_list(text: str) -> tuple[str, ...]:
    """Split at commas; blanks around them do not count, empty parts do ("a," has two), the empty text has none."""
    return tuple(part.strip(" \t\n\r\f\v") for part in text.split(",")) if text else ()


def _parse_integer(text: str, limit: int) -> int | None:
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits.isdecimal():
        return None
    number = int(text)
    return number if -limit <= number < limit else None


def _parse_double(text: str) -> float | None:
    """What Java's Double.parseDouble reads: decimal, hexadecimal with a binary exponent, an optional type letter."""
    sign = text[:1] if text[:1] in ("+", "-") else ""
    body = text[len(sign) :]
    if body in ("NaN", "Infinity"):
        return float(sign + body.replace("Infinity", "inf"))
    if not body.isascii():
        return None
    if body[:2] in ("0x", "0X"):
        number = body[:-1] if body[-1:] in "dDfF" and "p" in body.lower() else body
        try:
            return float.fromhex(sign + number) if "p" in number.lower() else None
        except (ValueError, OverflowError):
            return None
    number = body[:-1] if body[-1:] and body[-1] in "dDfF" else body
    if not number or not (number[0].isdecimal() or number[0] == ".") or "_" in number:
        return None
    try:
        return float(sign + number)
    except ValueError:
        return None


def _show_double(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "Infinity" if value > 0 else "-Infinity"
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        text = repr(value)
        if "e" not in text:
            return text
    mantissa, _, exponent = f"{value:.17e}".partition("e")
    for digits in range(17):  # the shortest that reads back as the same double
        text = f"{value:.{digits}e}"
        if float(text) == value:
            mantissa, _, exponent = text.partition("e")
            break
    if "." not in mantissa:
        mantissa += ".0"
    return f"{mantissa}E{int(exponent)}"


def _check(name: str, rule: str, value: Value) -> None:
    word, _, rest = rule.partition(":")
    if word in ("in", "anycase"):
        _check_choice(name, rest.split(","), value, any_case=word == "anycase")
    elif word == "list":
        _check_list(name, rest.split(","), value)
    elif word == "gzip":
        if isinstance(value, int) and value != -1 and not 1 <= value <= 9:
            raise _refuse(name, value, "Value must be between 1 and 9 or equal to -1")
    elif word == "pool":
        if isinstance(value, int) and value != -1 and value <= 0:
            raise _refuse(name, value, "Value can be -1 or greater than 0")
    elif word == "nonempty":
        if value == "":
            raise _refuse(name, value, "String must be non-empty")
    elif word == "version":
        if not is_release(str(value)):
            raise _refuse(name, value, f"Version {value} is not a valid version")
    elif word == "throttle":
        _check_throttle(name, value)
    else:
        _check_range(name, rule, value)


def _check_choice(name: str, choices: list[str], value: Value, *, any_case: bool) -> None:
    text = str(value)
    if text.upper() in choices if any_case else text in choices:
        return
    how = " (case insensitive)" if any_case else ""
    raise _refuse(name, value, f"String must be one of{how}: {', '.join(choices)}")


def _check_list(name: str, choices: list[str], value: Value) -> None:
    for part in value if isinstance(value, tuple) else ():
        _check_choice(name, choices, part, any_case=False)


def _check_range(name: str, rule: str, value: Value) -> None:
    low, _, high = rule.partition("..")
    if not isinstance(value, (int, float)):
        return
    low = low.removeprefix(">=")
    if value < float(low):
        raise _refuse(name, show_value(value), f"Value must be at least {low}")
    if high and value > float(high):
        raise _refuse(name, show_value(value), f"Value must be no more than {high}")


def _check_throttle(name: str, value: Value) -> None:
    replicas = value if isinstance(value, tuple) else ()
    if replicas[:1] == ("*",) or all(not replica or _is_replica(replica) for replica in replicas):
        return
    shown = "[" + ", ".join(replicas) + "]"
    form = "[partitionId]:[brokerId],[partitionId]:[brokerId],..."
    raise _refuse(name, shown, f"{name} must be the literal '*' or a list of replicas in the following format: {form}")


def _is_replica(text: str) -> bool:
    partition, colon, broker = text.partition(":")
    return bool(colon) and all(part.isascii() and part.isdecimal() for part in (partition, broker))


def is_release(text: str) -> bool:
    """True for a Kafka release ("3.9", "2.8.1") or one of its steps ("3.9-IV0")."""
    release, dash, step = text.partition("-")
    if not dash:
        parts = release.split(".")
        return ".".join(parts[: 3 if parts[0] == "0" else 2]) in _RELEASE_STEPS
    if release not in _RELEASE_STEPS or not step.startswith("IV") or not step[2:].isdecimal():
        return False
    return int(step[2:]) < _RELEASE_STEPS[release]
