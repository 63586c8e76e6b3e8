"""Handing an answer to the client who asked.

Measured: Clients.deliver for one UDP client and for eight who asked the same, and of an
answer that is too long for UDP and is truncated. Not measured: the socket.
"""

from __future__ import annotations

import pytest

from _udp2tls import demo, wire
from _udp2tls.pending import Query
from bench import material
from bench.meter import Meter, group
from bench.world import World

pytestmark = group("clients")


def _deliver(answer: bytes, address: object) -> None:
    pass


def _query() -> Query:
    message = material.query(1)
    end, opt = wire.parse_query(message)
    return Query(message, end, opt, message[:2], (_deliver, material.ADDRESS), 1000.0)


@pytest.mark.parametrize("askers", [1, 8])
def test_deliver(meter: Meter, files: demo.Files, askers: int) -> None:
    query = _query()
    query.clients *= askers
    answer = material.brief(query.message)
    with World(files) as world:
        meter.repeat(1, world.forwarder.clients.deliver, query.clients, answer, query)


def test_deliver_truncated(meter: Meter, files: demo.Files) -> None:
    query = _query()
    short = material.brief(query.message)
    record = short[query.end :]
    answer = b"".join((short[:6], b"\0\x40", short[8:], record * 63))
    assert len(answer) > wire.MIN_UDP
    with World(files) as world:
        meter.repeat(1, world.forwarder.clients.deliver, query.clients, answer, query)
