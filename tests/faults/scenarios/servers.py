"""Servers with peculiar habits, none of them forbidden."""

from __future__ import annotations

import asyncio
import math
import time

from tests.faults.client import Record, shown
from tests.faults.registry import scenario
from tests.faults.report import Report
from tests.faults.stage import Stage


@scenario("11", "answers out of order", quick=True)
async def out_of_order(stage: Stage, report: Report) -> None:
    """100 queries at once, each answered after a time of its own, up to 200 ms.

    Every answer is right and there within 0.4 s, over one connection.
    """
    upstream = stage.upstream()
    clients = await stage.start(upstream)
    upstream.jitter = 0.2
    begin = time.monotonic()
    clients.burst(100)
    await clients.settle()
    report.all_right(clients.record, 0.4)
    used = {seen.visit for seen in upstream.queries if seen.time >= begin}
    report.expect(len(used) == 1, f"{len(used)} connections used")


@scenario("12", "one query per connection", quick=True)
async def one_query_per_connection(stage: Stage, report: Report) -> None:
    """The upstream answers one query per connection and closes; 100 queries at 50/s, then 100 at once.

    Every answer is right and there within 3 s.
    """
    upstream = stage.upstream()
    upstream.one_shot = True
    clients = await stage.start(upstream)
    slowly = await clients.steady(50, 2)
    await clients.settle(patience=8)
    report.all_right(slowly, 3.0, "at 50/s")
    at_once = clients.burst(100)
    await clients.settle(patience=8)
    report.all_right(at_once, 3.0, "at once")
    report.note(f"{len(upstream.visits)} connections, {len(upstream.queries)} queries")
    report.expect(clients.record.stray == 0, f"{clients.record.stray} stray")


@scenario("13", "serial server with a slow name")
async def serial_and_slow(stage: Stage, report: Report) -> None:
    """The upstream takes 2 ms per query, one after the other; of 100 at once the tenth takes 2 s. Thrice, 4 s apart.

    The other 99 are right each time, and none comes later than in its place in a burst without the slow name,
    which goes before, the time of a handshake and 10 ms excepted. The slow one is answered rightly within 4.5 s.
    """
    upstream = stage.upstream()
    upstream.serial, upstream.service, upstream.slow = True, 0.002, 2.0
    clients = await stage.start(upstream)
    normal = clients.burst(100)
    await clients.settle(patience=8)
    report.all_right(normal, what="without the slow name")
    for turn in range(3):
        begin = time.monotonic()
        burst = clients.burst(100, slow=9)
        await clients.settle(burst.asks, patience=8)
        others = Record([ask for ask in burst.asks if not ask.name.startswith("slow")])
        slow = next(ask for ask in burst.asks if ask.name.startswith("slow"))
        report.expect(slow.verdict == "right", f"burst {turn + 1}: slow one {slow.verdict}")
        report.within(slow.took, 4.5, "it came after")
        report.expect(others.all_right, f"the others: {others}")
        places = [one.took for one in normal.asks]
        lag = max((one.took - place for one, place in zip(burst.asks, places) if one is not slow), default=0.0)
        report.note(f"none more than {shown(lag)} after its place in the burst without the slow name")
        handshake = max(one.established - one.opened for one in upstream.visits if one.established < math.inf)
        report.note(f"the last after {shown(others.worst)}, the longest handshake took {shown(handshake)}")
        report.within(lag, handshake + 0.01, "late at most")
        await asyncio.sleep(max(0.0, begin + 4 - time.monotonic()) if turn < 2 else 0)
    report.expect(clients.record.stray == 0, f"{clients.record.stray} stray, {len(upstream.visits)} connections")


@scenario("14", "a slow name, little traffic", quick=True)
async def slow_but_alive(stage: Stage, report: Report) -> None:
    """Among one query a second, answered at once, there is one whose answer takes 1.5 s.

    All are answered rightly, and the slow one was asked at most twice.
    """
    upstream = stage.upstream()
    upstream.slow = 1.5
    clients = await stage.start(upstream)
    load = asyncio.create_task(clients.steady(1, 5))
    await asyncio.sleep(1.5)
    slow = clients.ask("slow")
    await load
    await clients.settle()
    report.all_right(clients.record)
    times = sum(seen.name == slow.name for seen in upstream.queries)
    report.expect(times <= 2, f"the slow one asked {times} times, answer after: {shown(slow.took)}")
