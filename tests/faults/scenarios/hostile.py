"""Bytes that should not be: from the upstream, and from clients."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable

from tests.faults import tampering
from tests.faults.registry import scenario
from tests.faults.report import Report
from tests.faults.stage import Stage
from tests.faults.upstream import Upstream
from tests.peers import asking


@scenario("15", "each answer twice", tampering.duplicates, quick=True)
@scenario("16", "forged answers: wrong ID", tampering.wrong_id, quick=True)
@scenario("17", "forged answers: wrong question", tampering.wrong_question, quick=True)
@scenario("18", "forged answers: wrong type", tampering.wrong_type, quick=True)
async def forged(stage: Stage, report: Report, tamper: tampering.Tamper) -> None:
    """Each answer comes twice, or a false one comes before it; 200 queries at 100/s.

    All are answered rightly, and no client gets an answer it has no question for.
    """
    upstream = stage.upstream()
    clients = await stage.start(upstream)
    upstream.tamper = tamper
    await clients.steady(100, 2)
    await clients.settle()
    await asyncio.sleep(0.2)
    report.all_right(clients.record)
    report.note(f"{len(upstream.visits)} connections")


@scenario("20", "zero-length frames", quick=True)
async def zero_length_frames(stage: Stage, report: Report) -> None:
    """Before and after each answer comes a frame without content; 20 queries/s for 3 s.

    Every answer is right and there within 1 s.
    """
    upstream = stage.upstream()
    clients = await stage.start(upstream)
    upstream.tamper = tampering.zero_length_frames
    await clients.steady(20, 3)
    await clients.settle()
    report.all_right(clients.record, 1.0)
    report.note(f"{len(upstream.visits)} connections")


def halve_an_answer(upstream: Upstream) -> None:
    upstream.halve = 1


def garble_an_answer(upstream: Upstream) -> None:
    upstream.tamper_once = tampering.garbage


def spill(upstream: Upstream) -> None:
    upstream.spill(random.randbytes(100))


@scenario("19", "half a frame, then silence", halve_an_answer, 1)
@scenario("21", "garbage instead of a frame", garble_an_answer, 3)
@scenario("22", "garbage instead of TLS", spill, 3, quick=True)
async def broken_stream(stage: Stage, report: Report, harm: Callable[[Upstream], None], times: int) -> None:
    """Under 20 queries/s for 4 s an answer stops in its middle, once, and its connection is silent from then on; or
    each second an answer is replaced by bytes that are no frame; or each connection gets bytes that are no TLS.

    Every answer is right and there within 1 s.
    """
    upstream = stage.upstream()
    clients = await stage.start(upstream)
    load = asyncio.create_task(clients.steady(20, 4))
    for _ in range(times):
        await asyncio.sleep(1)
        harm(upstream)
    await load
    await clients.settle()
    report.all_right(clients.record, 1.0)
    report.note(f"{len(upstream.visits)} connections")


@scenario("25", "hostile packets from clients")
async def hostile_clients(stage: Stage, report: Report) -> None:
    """For 5 s, beside 50 right queries/s, come 500 random and damaged packets/s over UDP, some over TCP.

    Every right query is answered rightly within 1 s; the forwarder lives.
    """
    upstream = stage.upstream()
    clients = await stage.start(upstream)
    load = asyncio.create_task(clients.steady(50, 5))
    rng = random.Random(25)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(("127.0.0.1", stage.forwarder.port))
        while not load.done():
            for _ in range(10):
                packet = hostile_packet(rng)
                try:
                    sock.send(packet)
                except OSError:
                    pass  # the kernel had no room
            await throw_over_tcp(stage.forwarder.port, asking.framed(hostile_packet(rng)))
            await asyncio.sleep(0.02)
    await clients.settle()
    report.all_right(clients.record, 1.0)
    report.expect(stage.forwarder.alive, "alive" if stage.forwarder.alive else "dead")


def hostile_packet(rng: random.Random) -> bytes:
    if rng.random() < 0.3:
        return rng.randbytes(rng.randrange(1, 600))
    packet = bytearray(asking.make_query("n1.hostile.example", opt=asking.opt_record()))
    for _ in range(rng.randrange(1, 6)):
        packet[rng.randrange(len(packet))] = rng.randrange(256)
    return bytes(packet[: rng.randrange(1, len(packet) + 1)] if rng.random() < 0.3 else packet)


async def throw_over_tcp(port: int, data: bytes) -> None:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return
    writer.write(data)
    writer.close()


@scenario("26", "hostile answers from the upstream", quick=True)
async def hostile_answers(stage: Stage, report: Report) -> None:
    """Before each right answer comes a damaged one, or random bytes, well framed; 100 queries/s for 4 s.

    No client ever gets a wrong answer or one it did not ask for; every query is answered, less
    than 2 % with SERVFAIL.
    """
    upstream = stage.upstream()
    clients = await stage.start(upstream)
    upstream.tamper = tampering.mutations
    begin = time.monotonic()
    await clients.steady(100, 4)
    await clients.settle()
    record = clients.record
    spoilt = record.count("wrong") + record.count("unanswered") + record.stray
    report.expect(not spoilt and record.count("servfail") < 0.02 * len(record.asks), str(record))
    report.note(f"{sum(visit.opened >= begin for visit in upstream.visits)} new connections")
