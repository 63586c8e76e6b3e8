"""Whole turns of the Forwarder: everything but the kernel.

Measured: ``Forwarder.turn`` in which a batch of queries goes out, and one in which the
batch's answers come back, with TLS; for clients without an OPT record and answers like
dnsdist's, for clients with one and padded answers, and over TCP. The fake sockets and
the fake selector are in the figure: less than a microsecond a query.
Not measured: system calls, the kernel, waiting. Those are in test_end_to_end.py.
"""

from __future__ import annotations

import pytest

from _udp2tls import demo
from bench import material
from bench.meter import Meter, group
from bench.world import World

pytestmark = [
    group("turn"),
    pytest.mark.parametrize("batch", [1, 8, 32]),
    pytest.mark.parametrize("client", ["plain", "edns", "tcp"]),
]


def _world(files: demo.Files, client: str, batch: int) -> World:
    with_opt = client == "edns"
    answerer = material.padded if with_opt else material.brief
    return World(files, batch, with_opt=with_opt, answerer=answerer, tcp=client == "tcp")


def test_queries(meter: Meter, files: demo.Files, client: str, batch: int) -> None:
    with _world(files, client, batch) as world:

        def prepare() -> None:
            if world.waiting:
                world.answers_come()
                world.turn()
            world.queries_come()

        meter.alternate(batch, prepare, world.turn)
        assert world.waiting == batch


def test_answers(meter: Meter, files: demo.Files, client: str, batch: int) -> None:
    with _world(files, client, batch) as world:

        def prepare() -> None:
            world.queries_come()
            world.turn()
            world.answers_come()

        meter.alternate(batch, prepare, world.turn)
        assert not world.waiting
