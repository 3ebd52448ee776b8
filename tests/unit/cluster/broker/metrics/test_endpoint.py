"""The HTTP server of pages: what it answers, and that nobody holds it for long."""

from __future__ import annotations

import gzip
import http.client
import socket
import threading
from collections.abc import Iterator

import pytest

from cluster.broker.metrics import endpoint as module
from cluster.broker.metrics.endpoint import Endpoint, Page, plain
from pylog import logger

TIMEOUT_S = 20
LONG = b"x" * 100_000


def page(path: str, accept: str) -> Page:
    if path == "/broken":
        raise ValueError("broken")
    if path == "/long":
        return Page(200, "text/plain", LONG)
    return plain(200, f"{path} for {accept}\n")


@pytest.fixture
def served() -> Iterator[Endpoint]:
    endpoint = Endpoint("127.0.0.1", 0, page)
    endpoint.start()
    yield endpoint
    endpoint.stop()


def connect(endpoint: Endpoint) -> socket.socket:
    return socket.create_connection(("127.0.0.1", endpoint.port), TIMEOUT_S)


def ask(endpoint: Endpoint, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=TIMEOUT_S)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    found = answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    connection.close()
    return found


def say(endpoint: Endpoint, data: bytes) -> bytes:
    """The first line of the answer to bytes that are no proper request."""
    with connect(endpoint) as connection:
        connection.sendall(data)
        return connection.makefile("rb").readline().rstrip()


def test_a_page(served: Endpoint) -> None:
    status, headers, body = ask(served, "/metrics?name=x", Accept="text/plain")
    assert (status, body) == (200, b"/metrics for text/plain\n")
    assert headers["content-length"] == str(len(body)) and headers["connection"] == "close"


def test_only_the_head(served: Endpoint) -> None:
    status, headers, body = ask(served, "/long", "HEAD")
    assert (status, headers["content-length"], body) == (200, str(len(LONG)), b"")


def test_packed_for_who_can_unpack(served: Endpoint) -> None:
    _, headers, body = ask(served, "/long", Accept_Encoding="deflate, gzip;q=0.5")
    assert headers["content-encoding"] == "gzip" and gzip.decompress(body) == LONG
    _, headers, body = ask(served, "/long", Accept_Encoding="identity")
    assert "content-encoding" not in headers and body == LONG


def test_other_methods(served: Endpoint) -> None:
    status, headers, _ = ask(served, "/metrics", "POST")
    assert (status, headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("data", [b"GET /\r\n\r\n", b"\x00\x00\x00\x10Kafka\r\n\r\n", b"GET / HTTP/1.1\r\nno\r\n\r\n"])
def test_what_is_no_request(served: Endpoint, data: bytes) -> None:
    assert say(served, data) == b"HTTP/1.1 400 Bad Request"


def test_a_request_without_end(served: Endpoint) -> None:
    assert say(served, b"GET / HTTP/1.1\r\n" + b"a" * 16_384).startswith(b"HTTP/1.1 431 ")


def test_a_page_that_fails(served: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(logger, "sink", lambda level, line: lines.append(line))
    assert ask(served, "/broken")[0] == 500
    assert served.failures == 1 and "ValueError: broken" in lines[0]
    assert ask(served, "/")[0] == 200  # and it goes on


def test_who_says_nothing_is_given_up(served: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASK_S", 0.05)
    with connect(served) as silent, connect(served) as dripping:
        dripping.sendall(b"GET / HT")
        assert silent.recv(1) == b""
        assert dripping.recv(1) == b""
    assert ask(served, "/")[0] == 200


def test_who_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TAKE_S", 0.05)
    endpoint = Endpoint("127.0.0.1", 0, lambda path, accept: Page(200, "text/plain", LONG * 300))
    endpoint.start()
    with connect(endpoint) as slow, connect(endpoint) as other:
        slow.sendall(b"GET / HTTP/1.1\r\n\r\n")
        other.sendall(b"HEAD / HTTP/1.1\r\n\r\n")
        assert other.recv(15) == b"HTTP/1.1 200 OK"  # only when the first was given up
    endpoint.stop()


def test_stop_waits_for_the_page_that_is_made() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(path: str, accept: str) -> Page:
        asked.set()
        assert go_on.wait(TIMEOUT_S)
        return plain(200, "done\n")

    endpoint = Endpoint("127.0.0.1", 0, slow)
    endpoint.start()
    with connect(endpoint) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert asked.wait(TIMEOUT_S)
        stopping = threading.Thread(target=endpoint.stop)
        stopping.start()
        go_on.set()
        assert connection.makefile("rb").read().endswith(b"\r\n\r\ndone\n")
        stopping.join(TIMEOUT_S)
        assert not stopping.is_alive()


def test_it_stops_without_having_been_started() -> None:
    endpoint = Endpoint("127.0.0.1", 0, page)
    endpoint.stop()
    with pytest.raises(ConnectionRefusedError):
        connect(endpoint)


def test_every_interface() -> None:
    endpoint = Endpoint("", 0, page)
    endpoint.start()
    assert ask(endpoint, "/")[0] == 200
    endpoint.stop()


def test_a_port_that_is_taken(served: Endpoint) -> None:
    with pytest.raises(OSError, match="in use"):
        Endpoint("127.0.0.1", served.port, page)
