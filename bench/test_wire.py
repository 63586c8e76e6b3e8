"""Reading messages: a query's check, an answer's OPT record.

Measured: wire.parse_query and wire.find_opt of one message. Not measured: malformed ones.
"""

from __future__ import annotations

import pytest

from _udp2tls import wire
from bench import material
from bench.meter import Meter, group

pytestmark = group("wire")


@pytest.mark.parametrize("client", ["plain", "edns"])
def test_parse_query(meter: Meter, client: str) -> None:
    meter.repeat(1, wire.parse_query, material.query(1, with_opt=client == "edns"))


@pytest.mark.parametrize("records", [1, 8])
def test_find_opt(meter: Meter, records: int) -> None:
    answer = material.brief(material.dressed(material.query(1)))
    end = wire.question_end(answer)
    record, opt = answer[end : end + 16], answer[end + 16 :]
    answer = b"".join((answer[:6], records.to_bytes(2, "big"), answer[8:end], record * records, opt))
    assert wire.find_opt(answer, end) == (len(answer) - len(opt), len(answer))
    meter.repeat(1, wire.find_opt, answer, end)
