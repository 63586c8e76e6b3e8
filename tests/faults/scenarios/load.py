"""Many queries, many clients, slow answers; and nothing at all."""

from __future__ import annotations

import asyncio

from tests.faults.client import Record, exchange, new_ask
from tests.faults.registry import scenario
from tests.faults.report import Report
from tests.faults.stage import Stage


@scenario("23", "2000 queries at once", quick=True)
async def burst(stage: Stage, report: Report) -> None:
    """2000 queries at once, from 20 sockets; the upstream answers at once.

    Every answer is right and there within 2 s.
    """
    upstream = stage.upstream()
    clients = await stage.start(upstream, udp=20)
    clients.burst(2000)
    await clients.settle()
    report.all_right(clients.record, 2.0)
    report.note(f"{len(upstream.visits)} connections")


@scenario("24", "200 idle TCP clients", quick=True)
async def idle_tcp_clients(stage: Stage, report: Report) -> None:
    """200 TCP clients connect and say nothing, beside 100 queries/s over UDP for 3 s; then each of them asks.

    Every answer is right and there within 1 s.
    """
    upstream = stage.upstream()
    clients = await stage.start(upstream)
    opening = [asyncio.open_connection("127.0.0.1", stage.forwarder.port) for _ in range(200)]
    opened = await asyncio.gather(*opening, return_exceptions=True)
    streams = [pair for pair in opened if not isinstance(pair, BaseException)]
    try:
        await clients.steady(100, 3)
        await clients.settle()
        report.all_right(clients.record, 1.0, "over UDP")
        asks = [new_ask() for _ in streams]
        asking = [asyncio.wait_for(exchange(*pair, ask), 5) for pair, ask in zip(streams, asks)]
        await asyncio.gather(*asking, return_exceptions=True)
        report.expect(len(streams) == 200, f"{len(streams)} TCP clients connected")
        report.all_right(Record(asks), 1.0, "over TCP")
    finally:
        for _, writer in streams:
            writer.close()


@scenario("27", "slow but healthy")
async def slow_but_healthy(stage: Stage, report: Report) -> None:
    """Each answer takes 300 to 400 ms; 200 queries/s for 8 s.

    Every answer is right; the upstream sees less than 2 % of the questions more than once.
    """
    upstream = stage.upstream()
    upstream.delay, upstream.jitter = 0.3, 0.1
    clients = await stage.start(upstream)
    await clients.steady(200, 8)
    await clients.settle()
    report.all_right(clients.record)
    questions = {seen.question for seen in upstream.queries}
    repeated = len(upstream.queries) - len(questions)
    report.expect(repeated < 0.02 * len(questions), f"{repeated} of {len(questions)} questions repeated")
    report.note(f"{len(upstream.visits)} connections")


@scenario("28", "idle")
async def idle(stage: Stage, report: Report) -> None:
    """After some traffic nothing happens for 10 s (long: 60 s).

    The forwarder takes less than 5 ms of CPU in that time.
    """
    seconds = 60 if stage.long else 10
    upstream = stage.upstream()
    clients = await stage.start(upstream)
    await clients.steady(100, 1)
    await clients.settle()
    await asyncio.sleep(1)
    before = stage.forwarder.cpu()
    await asyncio.sleep(seconds)
    used = (stage.forwarder.cpu() - before) * 1000
    report.expect(used <= 5, f"{used:.2f} ms of CPU in {seconds} s")
    report.all_right(clients.record)
