"""Two upstreams in order of preference, and two addresses of one."""

from __future__ import annotations

import asyncio
import time

from tests.faults.knocks import Knocks
from tests.faults.registry import scenario
from tests.faults.report import Report
from tests.faults.stage import Stage
from tests.faults.upstream import Upstream

HEDGED = 0.25 + 0.05 + 0.05  # hedge delay, the second's time, and some


def spoil(upstream: Upstream, fault: str) -> None:
    if fault in ("refuse", "black_hole"):
        getattr(upstream, fault)()
    else:
        setattr(upstream, fault, True)
    upstream.cut()


@scenario("9a", "first upstream refuses, and returns", "refuse")
@scenario("9b", "first upstream is a black hole, and returns", "black_hole")
@scenario("9c", "first upstream stalls in the handshake, and returns", "stall")
@scenario("9d", "first upstream answers SERVFAIL, and recovers", "servfail")
@scenario("9e", "first upstream has a bad certificate, and recovers", "bad_certificate")
async def first_fails_and_returns(stage: Stage, report: Report, fault: str) -> None:
    """Of two upstreams in order, under 10 queries/s, the first is faulty for 6 s, its connections reset at the start.

    Every answer is right and there within 0.35 s (250 ms, the second's time, and 50 ms); from the
    fault's second second on, the first gets at most one connection attempt or query a second
    (and two more); within 30 s of its recovery a whole second's queries go to it alone.
    """
    first, second = stage.upstream(), stage.upstream()
    clients = await stage.start(first, second)
    knocks = Knocks.open(first.port)
    load = asyncio.create_task(clients.steady(10, 60))
    try:
        await asyncio.sleep(2)
        spoil(first, fault)
        broken = time.monotonic()
        await asyncio.sleep(6)
        healed = time.monotonic()
        first.heal()
        back = await returned(first, second, healed)
    finally:
        load.cancel()
        if knocks:
            knocks.close()
    await clients.settle()
    report.all_right(clients.record, HEDGED)
    asked = sum(broken + 1 <= seen.time < healed for seen in first.queries)
    if knocks is None:
        report.note("connection attempts cannot be counted without a privilege")
    tried = knocks.between(broken + 1, healed) if knocks else 0
    report.expect(max(asked, tried) <= 5 + 2, f"during the fault {tried} attempts and {asked} queries at the first")
    report.expect(back <= 30, f"traffic back on the first after {back:.1f} s" if back <= 30 else "never came back")


async def returned(first: Upstream, second: Upstream, healed: float) -> float:
    """Wait for a second in which clients' queries go to ``first`` alone; return when it began, after ``healed``."""

    def last_elsewhere() -> float:
        ours = [seen.time for seen in list(second.queries) if seen.from_client]
        return max(ours, default=0.0)

    while time.monotonic() < healed + 31:
        now = time.monotonic()
        lately = sum(now - 1 <= seen.time and seen.from_client for seen in list(first.queries))
        begin = max(last_elsewhere(), healed)
        if lately >= 8 and now - begin >= 1:
            return begin - healed
        await asyncio.sleep(0.05)
    return float("inf")


@scenario("10", "IPv6 broken beside good IPv4, then the reverse", quick=True)
async def broken_ipv6(stage: Stage, report: Report) -> None:
    """The upstream's IPv6 address is a black hole from the start; later IPv6 heals and IPv4 becomes one.

    The first query is answered rightly within 0.4 s (250 ms for the second address's turn, and
    150 ms), those after it within 0.1 s; after the exchange every one within 1 s.
    """
    six = stage.upstream("::1")
    four = stage.upstream("127.0.0.1", six.port)
    six.black_hole()
    clients = await stage.start(six, four, same=True, warm=False)
    first = await clients.answer_to(patience=8)
    report.expect(first.verdict == "right", f"first answer {first.verdict}")
    report.within(first.took, 0.4, "it came after")
    then = await clients.steady(10, 2)
    await clients.settle()
    report.all_right(then, 0.1, "then")
    six.open()
    four.black_hole()
    four.cut()
    after = await clients.steady(10, 4)
    await clients.settle()
    report.all_right(after, 1.0, "after the exchange")
    report.expect(clients.record.stray == 0, f"{clients.record.stray} stray")
