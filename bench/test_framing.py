"""Length framing of batches.

Measured: Framing.send with outgoing, and Framing.receive, of a batch in one chunk.
Not measured: the joining of the chunks, which is TLS's or the stream's.
"""

from __future__ import annotations

import pytest

from _udp2tls.framing import Framing
from bench import material
from bench.meter import Meter, group

pytestmark = [group("framing"), pytest.mark.parametrize("batch", material.BATCHES)]


def test_frame(meter: Meter, batch: int) -> None:
    codec = Framing()
    messages = [material.dressed(message) for message in material.queries(batch)]

    def work() -> None:
        codec.send(messages, 0.0)
        codec.outgoing()

    meter.repeat(batch, work)


def test_unframe(meter: Meter, batch: int) -> None:
    codec = Framing()
    messages = [material.brief(material.dressed(message)) for message in material.queries(batch)]
    codec.send(messages, 0.0)
    chunks = [b"".join(codec.outgoing())]
    assert codec.receive(chunks, 0.0) == messages
    meter.repeat(batch, codec.receive, chunks, 0.0)
