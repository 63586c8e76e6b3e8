"""Tls over Framing, against a server in memory.

Measured: sending a batch of queries (framing, one record, one chunk) and receiving a
batch of answers that came as one chunk, at the client's end. Not measured: the server's
end, the handshake, sockets.
"""

from __future__ import annotations

import pytest

from _udp2tls import demo
from bench import material
from bench.meter import Meter, group
from bench.world import pair

pytestmark = [group("tls"), pytest.mark.parametrize("batch", material.BATCHES)]


def test_send(meter: Meter, files: demo.Files, batch: int) -> None:
    client, _ = pair(files)
    messages = [material.dressed(message) for message in material.queries(batch)]

    def work() -> None:
        client.send(messages, 0.0)
        client.outgoing()

    meter.repeat(batch, work)


def test_receive(meter: Meter, files: demo.Files, batch: int) -> None:
    client, server = pair(files)
    messages = [material.brief(material.dressed(message)) for message in material.queries(batch)]

    def prepare() -> list[bytes]:
        server.send(messages, 0.0)
        return [b"".join(server.outgoing())]

    def work(chunks: list[bytes]) -> None:
        client.receive(chunks, 0.0)

    assert client.receive(prepare(), 0.0) == messages
    meter.alternate(batch, prepare, work)
