"""This hop's part of a message: put on a query, taken off an answer.

Measured: edns.dress and edns.undress of one message: clients with and without an OPT
record of their own, answers with an empty OPT record and with keepalive and padding.
Not measured: signed messages, which pass as they are.
"""

from __future__ import annotations

import pytest

from _udp2tls import edns, wire
from bench import material
from bench.meter import Meter, group

pytestmark = group("edns")


@pytest.mark.parametrize("client", ["plain", "edns"])
def test_dress(meter: Meter, client: str) -> None:
    message = material.query(1, with_opt=client == "edns")
    _, opt = wire.parse_query(message)
    assert len(edns.dress(message, opt, b"\0\1")) % edns.BLOCK == 0
    meter.repeat(1, edns.dress, message, opt, b"\0\1")


@pytest.mark.parametrize("client", ["plain", "edns"])
@pytest.mark.parametrize("upstream", ["brief", "padded"])
def test_undress(meter: Meter, upstream: str, client: str) -> None:
    message = material.query(1, with_opt=client == "edns")
    answerer = material.brief if upstream == "brief" else material.padded
    answer = answerer(material.dressed(message))
    end, opt = wire.parse_query(message)
    undressed, _ = edns.undress(answer, end, opt > 0)
    assert undressed == material.brief(message)
    meter.repeat(1, edns.undress, answer, end, opt > 0)
