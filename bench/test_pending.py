"""The table of pending queries, each of its doings alone; test_key has a query's whole life in it.

Measured: Pending.add of new queries, of the same query by another client, and of queries
whose ID is taken; Pending.match of answers, under the client's own ID and under another;
Pending.oldest when nothing is due and when a batch is.
Not measured: malformed queries, answers to nothing.
"""

from __future__ import annotations

import random

import pytest

from _udp2tls.pending import Pending
from bench import material
from bench.meter import Meter, group

pytestmark = group("pending")

NOW = 1000.0


def _deliver(answer: bytes, address: object) -> None:
    pass


_WHO = (_deliver, material.ADDRESS)


def _add(pending: Pending, messages: list[bytes]) -> None:
    for message in messages:
        pending.add(message, _WHO, NOW)


@pytest.fixture
def pending() -> Pending:
    return Pending(4.0, random.Random(1))


@pytest.mark.parametrize("batch", material.BATCHES)
@pytest.mark.parametrize("client", ["plain", "edns"])
def test_add(meter: Meter, pending: Pending, client: str, batch: int) -> None:
    asked = material.queries(batch, with_opt=client == "edns")

    def prepare() -> None:
        pending.clear()

    meter.alternate(batch, prepare, lambda: _add(pending, asked))
    assert len(pending) == batch


def test_add_under_another_id(meter: Meter, pending: Pending) -> None:
    _add(pending, [material.query(0)])
    asked = [b"\0\0" + message[2:] for message in material.queries(33)[1:]]

    def prepare() -> None:
        pending.clear()
        _add(pending, [material.query(0)])

    meter.alternate(32, prepare, lambda: _add(pending, asked))
    assert len(pending) == 33


def test_add_what_is_asked_already(meter: Meter, pending: Pending) -> None:
    message = material.query(1)
    first = pending.add(message, _WHO, NOW)
    assert first is not None

    def prepare() -> None:
        del first.clients[1:]

    meter.alternate(1, prepare, lambda: pending.add(message, (_deliver, ("127.0.0.1", 40001)), NOW))
    assert len(first.clients) == 2


@pytest.mark.parametrize("batch", material.BATCHES)
@pytest.mark.parametrize("id", ["own", "another"])
def test_match(meter: Meter, pending: Pending, id: str, batch: int) -> None:
    asked = material.queries(batch)
    if id == "another":
        _add(pending, [message[:2] + material.query(5000)[2:] for message in asked])  # the IDs are taken

    def prepare() -> list[bytes]:
        queries = [query for message in asked if (query := pending.add(message, _WHO, NOW))]
        assert all(query.renamed is (id == "another") for query in queries)
        return [query.id + material.brief(query.message)[2:] for query in queries]

    def work(answers: list[bytes]) -> None:
        for answer in answers:
            pending.match(answer)

    meter.alternate(batch, prepare, work)
    assert not pending.unknown + pending.mismatched


def test_oldest_when_nothing_is_due(meter: Meter, pending: Pending) -> None:
    _add(pending, material.queries(1000))
    assert pending.oldest(NOW) == []
    meter.repeat(1, pending.oldest, NOW)


@pytest.mark.parametrize("batch", [32])
def test_oldest_when_all_are_due(meter: Meter, pending: Pending, batch: int) -> None:
    asked = material.queries(batch)
    meter.alternate(batch, lambda: _add(pending, asked), lambda: pending.oldest(NOW + 5))
    assert not len(pending)
