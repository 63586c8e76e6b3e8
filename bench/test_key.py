"""The table of pending queries: what it costs to note a query and to find it by its answer.

Measured: Pending.add and Pending.match of a whole batch, the parsing of the query and
the check of the answer's question included. Not measured: expiry, coalescing, IDs that
are taken.
"""

from __future__ import annotations

import random

import pytest

from _udp2tls.pending import Pending
from bench import material
from bench.meter import Meter, group

pytestmark = group("key")


def _deliver(answer: bytes, address: object) -> None:
    pass


@pytest.mark.parametrize("batch", material.BATCHES)
@pytest.mark.parametrize("client", ["plain", "edns"])
def test_add_and_match(meter: Meter, client: str, batch: int) -> None:
    asked = material.queries(batch, with_opt=client == "edns")
    answers = [material.brief(material.dressed(message)) for message in asked]
    pending = Pending(4.0, random.Random(1))
    who = (_deliver, material.ADDRESS)

    def work() -> None:
        add, match = pending.add, pending.match
        for message in asked:
            add(message, who, 1000.0)
        for answer in answers:
            match(answer)

    meter.repeat(batch, work)
    assert not len(pending)
    assert not pending.unknown + pending.mismatched


def test_add_and_match_among_10000(meter: Meter) -> None:
    pending = Pending(4.0, random.Random(1))
    for number in range(10001, 20001):
        pending.add(material.query(number), (_deliver, material.ADDRESS), 1000.0)
    message = material.query(1)
    answer = material.brief(message)

    def work() -> None:
        pending.add(message, (_deliver, material.ADDRESS), 1000.0)
        pending.match(answer)

    meter.repeat(1, work)
    assert len(pending) == 10000
