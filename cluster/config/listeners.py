"""Listeners: `listeners`, `advertised.listeners` and the map from their names to security protocols.

What stays true: names are upper case and unique, every name has a security protocol, and two listeners share a port
only when one is IPv4 and the other IPv6 (or the port is 0, the system's choice). Refusals are in Kafka's words.
"""

from __future__ import annotations

from collections.abc import Callable

from pylog.config_value import ConfigError, Value
from pylog.facts import NamedTuple

SECURITY_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_HOST_CHARACTERS = frozenset("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-%._:")


class Listener(NamedTuple):
    """`host` is empty for every interface; an IPv6 address stands without brackets."""

    name: str
    host: str
    port: int
    protocol: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.name}://{host}:{self.port}"


class Address(NamedTuple):
    """HOST:PORT. `host` is empty for every interface; an IPv6 address stands without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class ListenerChoice(NamedTuple):
    """`advertised` is empty when it is not configured."""

    listeners: tuple[Listener, ...]
    advertised: tuple[Listener, ...]
    inter_broker: str


def choose_listeners(value: Callable[[str], Value], text: Callable[[str], str | None]) -> ListenerChoice:
    """`value`: the typed value in force of a key; `text`: what somebody set, or None. Raises ConfigError."""
    protocols = parse_protocol_map(str(value("listener.security.protocol.map")))
    listeners = parse_listeners(str(value("listeners")), protocols, check_ports=True)
    # A KRaft file names a listener for its controllers; there is nothing behind it here.
    controllers = _split(str(value("controller.listener.names") or "").upper())
    listeners = tuple(listener for listener in listeners if listener.name not in controllers)
    advertised = parse_listeners(str(value("advertised.listeners") or ""), protocols, check_ports=False)
    names = [listener.name for listener in advertised or listeners]
    if not names or value("advertised.listeners") == "":
        raise ConfigError("There must be at least one broker advertised listener.")
    if any(listener.host == "0.0.0.0" for listener in advertised):
        raise ConfigError(
            "advertised.listeners cannot use the nonroutable meta-address 0.0.0.0. Use a routable IP address."
        )
    inter_broker = value("inter.broker.listener.name")
    if inter_broker is not None and text("security.inter.broker.protocol") is not None:
        raise ConfigError("Only one of inter.broker.listener.name and security.inter.broker.protocol should be set.")
    inter_broker = str(inter_broker or value("security.inter.broker.protocol")).upper()
    if inter_broker not in names:
        raise ConfigError(
            "inter.broker.listener.name must be a listener name defined in advertised.listeners. "
            f"The valid options based on currently configured listeners are {','.join(names)}"
        )
    own_names = [listener.name for listener in listeners]
    if not set(names).issubset(own_names):
        raise ConfigError(
            "advertised.listeners listener names must be equal to or a subset of the ones defined in listeners. "
            f"Found {','.join(names)}. The valid options based on the current configuration are {','.join(own_names)}"
        )
    return ListenerChoice(listeners, advertised, inter_broker)


def parse_protocol_map(text: str) -> dict[str, str]:
    """`listener.security.protocol.map`: listener name to security protocol."""
    key = "listener.security.protocol.map"
    protocols: dict[str, str] = {}
    for part in _split(text):
        name, colon, protocol = part.rpartition(":")
        if not colon:
            raise ConfigError(f"Error parsing configuration property '{key}': '{part}' is not NAME:PROTOCOL")
        if protocol.upper() not in SECURITY_PROTOCOLS:
            raise ConfigError(f"Invalid security protocol `{protocol}` defined in {key}")
        protocols[name.upper()] = protocol.upper()
    return protocols


def parse_listeners(text: str, protocols: dict[str, str], *, check_ports: bool) -> tuple[Listener, ...]:
    """`check_ports`: ports must differ, as for sockets to open; advertised addresses may share one."""
    listeners = tuple(_parse_listener(part, text, protocols) for part in _split(text))
    if len({listener.name for listener in listeners}) < len(listeners):
        raise ConfigError(f"Each listener must have a different name, listeners: {text}")
    if check_ports:
        _check_ports(text, listeners)
    return listeners


def _check_ports(text: str, listeners: tuple[Listener, ...]) -> None:
    by_port: dict[int, list[str]] = {}
    for listener in listeners:
        if listener.port:
            by_port.setdefault(listener.port, []).append(listener.host)
    for hosts in by_port.values():
        families = {":" in host for host in hosts}
        if len(hosts) > 2 or (len(hosts) == 2 and (len(families) == 1 or "" in hosts)):
            raise ConfigError(f"Each listener must have a different port, listeners: {text}")


def _parse_listener(part: str, whole: str, protocols: dict[str, str]) -> Listener:
    name, slashes, text = part.rpartition("://")
    address = _split_address(text)
    if not slashes or address is None:
        raise ConfigError(
            f"Error creating broker listeners from '{whole}': Unable to parse {part} to a broker endpoint"
        )
    protocol = protocols.get(name.upper())
    if protocol is None:
        raise ConfigError(
            f"Error creating broker listeners from '{whole}': No security protocol defined for listener {name.upper()}"
        )
    return Listener(name.upper(), address.host, address.port, protocol)


def parse_address(key: str, text: str) -> Address:
    """The value of a key that is one HOST:PORT. Raises ConfigError."""
    address = _split_address(text)
    if address is None:
        raise ConfigError(f"Invalid value {text} for configuration {key}: it is not HOST:PORT")
    return address


def _split_address(text: str) -> Address | None:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        return None
    return Address(host, int(port)) if _HOST_CHARACTERS.issuperset(host) else None


def _split(text: str) -> list[str]:
    return [part for part in (part.strip() for part in text.split(",")) if part]
