"""Established connections that go silent under load, and the forwarder that was asleep meanwhile."""

from __future__ import annotations

import asyncio
import time

from tests.faults.registry import scenario
from tests.faults.report import Report
from tests.faults.stage import Stage


@scenario("5", "half-dead, 50 queries/s", 50, 1, 0, quick=True)
@scenario("6", "half-dead, 200 queries/s, UDP and TCP", 200, 4, 2)
async def half_dead(stage: Stage, report: Report, rate: int, udp: int, tcp: int) -> None:
    """Under a steady load, 6 s long, every established connection goes silent after 2 s; new ones work.

    Every answer is right and there within 1 s; no client's question arrives for the first time on a
    dead connection later than 1 s after its death.
    """
    upstream = stage.upstream()
    clients = await stage.start(upstream, udp=udp, tcp=tcp)
    load = asyncio.create_task(clients.steady(rate, 6))
    await asyncio.sleep(2)
    death = time.monotonic()
    upstream.go_silent()
    await load
    await clients.settle()
    report.all_right(clients.record, 1.0)
    new = [seen.time - death for seen in upstream.first_seen().values() if seen.dead and seen.from_client]
    late = sum(after > 1.0 for after in new)
    last = f", the last after {max(new):.2f} s" if new else ""
    report.expect(late == 0, f"{len(new)} new questions to the dead connection{last}")
    before = len({seen.question for seen in upstream.queries})
    report.note(f"{len(upstream.queries) - before} repeated of {before}")


@scenario("7a", "suspended, connections reset meanwhile", "reset")
@scenario("7b", "suspended, connections swallowed meanwhile", "swallowed", quick=True)
async def suspended(stage: Stage, report: Report, meanwhile: str) -> None:
    """The forwarder's processes are stopped for 4 s, in which every connection is reset or goes silent.

    The first query after that is answered rightly within 0.2 s.
    """
    upstream = stage.upstream()
    clients = await stage.start(upstream)
    await clients.steady(5, 1)
    await clients.settle()
    stage.forwarder.pause()
    try:
        await asyncio.sleep(2)
        if meanwhile == "reset":
            upstream.cut()
        else:
            upstream.go_silent()
        await asyncio.sleep(2)
    finally:
        stage.forwarder.resume()
    first = await clients.answer_to(patience=8)
    report.expect(first.verdict == "right", f"first answer {first.verdict}")
    report.within(first.took, 0.2, "it came after")
    await clients.steady(10, 1)
    await clients.settle()
    report.all_right(clients.record, what="in all")
