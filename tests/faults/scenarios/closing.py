"""Connections that the upstream ends while they are idle, aloud or silently."""

from __future__ import annotations

import asyncio
import time

from tests.faults.client import Clients
from tests.faults.registry import scenario
from tests.faults.report import Report
from tests.faults.stage import Stage
from tests.faults.upstream import Upstream


async def ask_every(clients: Clients, gap: float, count: int) -> list[float]:
    """Ask one query each ``gap`` seconds; return when each was asked."""
    times: list[float] = []
    for number in range(count):
        if number:
            await asyncio.sleep(times[-1] + gap - time.monotonic())
        times.append(clients.ask().sent)
    await clients.settle()
    return times


def late_after(upstream: Upstream, begin: float) -> int:
    """Count the queries since ``begin`` that were written to connections already ended."""
    return sum(at >= begin for visit in list(upstream.visits) for at in visit.late)


@scenario("1", "idle close: close_notify", "close_notify")
@scenario("2", "idle close: FIN", "fin")
@scenario("3", "idle close: RST", "rst")
async def idle_close(stage: Stage, report: Report, end: str) -> None:
    """The upstream closes each connection after 1.0 s without a query; one query every 1.3 s, ten in all.

    Every answer is right and there within 0.15 s (a handshake and a round trip on loopback take
    a tenth of that); after the first three, no query is written to a closed connection. (After a
    RST such a query cannot be seen.)
    """
    upstream = stage.upstream()
    upstream.idle_limit, upstream.idle_end = 1.0, end
    clients = await stage.start(upstream)
    await asyncio.sleep(1.3)
    times = await ask_every(clients, 1.3, 10)
    report.all_right(clients.record, 0.15)
    late = late_after(upstream, times[3])
    report.expect(late == 0, f"{late} queries to closed connections after the third")
    report.note(f"{len(upstream.visits)} connections, {sum(visit.resumed for visit in upstream.visits)} resumed")


@scenario("4", "idle drop without a word")
async def silent_idle_drop(stage: Stage, report: Report) -> None:
    """A connection idle for 1.0 s becomes a black hole, new ones work; one query every 1.5 s, eight in all.

    Every answer is right and there within 0.35 s (three round trips and a handshake, at least
    300 ms, and 50 ms); no dead connection gets another client's query after the one that met it.
    """
    upstream = stage.upstream()
    upstream.idle_limit, upstream.idle_end = 1.0, "go_silent"
    clients = await stage.start(upstream)
    await asyncio.sleep(1.5)
    await ask_every(clients, 1.5, 8)
    report.all_right(clients.record, 0.35)
    to_dead = {(seen.visit, seen.question) for seen in upstream.queries if seen.dead and seen.from_client}
    met = {visit for visit, _ in to_dead}
    report.expect(len(to_dead) == len(met), f"{len(to_dead)} queries to {len(met)} dead connections")
