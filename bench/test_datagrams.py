"""Datagrams in and out of a UDP socket: one by one, and many in one system call.

Measured: reading a batch of queries and answering each, on loopback, as a listener does it
either way, from the system call to the message and its sender; the receiver does not wait.
Not measured: what lies between query and answer, and the client.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from _udp2tls.listener import calls_of
from bench import material
from bench.meter import Meter, group

pytestmark = [group("datagrams"), pytest.mark.parametrize("batch", [1, 2, 4, 8, 16, 32, 64])]

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Yield our socket and a client's."""
    with socket.socket(type=socket.SOCK_DGRAM) as ours, socket.socket(type=socket.SOCK_DGRAM) as client:
        for sock in (ours, client):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        client.connect(ours.getsockname())
        yield ours, client


def _ask(client: socket.socket, queries: list[bytes]) -> None:
    with suppress(BlockingIOError):
        while True:  # the answers of the time before
            client.recv(4096)
    for query in queries:
        client.send(query)


def test_one_by_one(meter: Meter, pair: Pair, batch: int) -> None:
    ours, client = pair
    queries = material.queries(batch)
    answer = material.brief(queries[0])

    def work() -> None:
        received = [ours.recvfrom(65535) for _ in range(batch)]
        for _, address in received:
            ours.sendto(answer, address)

    meter.alternate(batch, lambda: _ask(client, queries), work)


def test_in_one_call(meter: Meter, pair: Pair, batch: int) -> None:
    ours, client = pair
    calls = calls_of(ours)
    if calls is None:
        pytest.skip("this system has no such call")
    queries = material.queries(batch)
    answer = material.brief(queries[0])

    def work() -> None:
        received, _ = calls.receive(ours.fileno())
        calls.send(ours.fileno(), [(answer, address) for _, address in received])

    meter.alternate(batch, lambda: _ask(client, queries), work)
