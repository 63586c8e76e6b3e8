"""No upstream at all, for a while, or again and again."""

from __future__ import annotations

import asyncio
import time

from tests.faults.registry import scenario
from tests.faults.report import Report
from tests.faults.stage import Stage


@scenario("8a", "outage: port refuses", "refuse")
@scenario("8b", "outage: black hole", "black_hole")
async def outage(stage: Stage, report: Report, how: str) -> None:
    """The only upstream is gone for 12 s (long: 30 s) under 20 queries/s: its port refuses, or is a black hole.

    Every query is answered within 5 s, with SERVFAIL at worst; at most 8 more files are open
    than before, and memory grows by at most 5 MB from the third second on; the first query
    after the return is answered rightly within 2 s.
    """
    seconds = 30 if stage.long else 12
    upstream = stage.upstream()
    clients = await stage.start(upstream)
    await clients.steady(20, 1)
    await clients.settle()
    files = most = stage.forwarder.open_files()
    getattr(upstream, how)()
    upstream.cut()
    load = asyncio.create_task(clients.steady(20, seconds))
    await asyncio.sleep(3)
    memory = stage.forwarder.resident()
    while not load.done():
        most = max(most, stage.forwarder.open_files())
        await asyncio.sleep(0.2)
    grown = stage.forwarder.resident() - memory
    during = await load
    upstream.open()
    first = await clients.answer_to(patience=8)
    await clients.settle(patience=3)
    report.expect(during.count("wrong") == 0, str(during))
    report.within(during.worst, 5.0, "each answered, the last after")
    report.expect(most <= files + 8, f"{most - files:+} open files at most")
    report.expect(grown <= 5, f"memory {grown:+.1f} MB")
    report.expect(first.verdict == "right", f"first answer after the return {first.verdict}")
    report.within(first.took, 2.0, "it came after")
    report.expect(clients.record.stray == 0, f"{clients.record.stray} stray")


@scenario("29", "reconnect storm")
async def reconnect_storm(stage: Stage, report: Report) -> None:
    """Under 100 queries/s for 8 s the upstream restarts every 2 s: connections reset, port closed for 0.3 s.

    Every query is answered, 99 % of them rightly.
    """
    upstream = stage.upstream()
    clients = await stage.start(upstream)
    load = asyncio.create_task(clients.steady(100, 8))
    for _ in range(4):
        begin = time.monotonic()
        await asyncio.sleep(1.7)
        upstream.refuse()
        upstream.cut()
        await asyncio.sleep(0.3)
        upstream.open()
        await asyncio.sleep(max(0.0, begin + 2 - time.monotonic()))
    await load
    await clients.settle()
    record = clients.record
    spoilt = record.count("wrong") + record.count("unanswered") + record.stray
    report.expect(record.right_share >= 0.99 and not spoilt, f"{record} ({record.right_share:.1%} right)")
    report.note(f"{len(upstream.visits)} connections")
