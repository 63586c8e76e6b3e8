"""DNSCrypt over TCP: where UDP is blocked, and servers whose manners on a connection are odd."""

from __future__ import annotations

import asyncio
import time

from tests.faults.registry import scenario
from tests.faults.report import Report
from tests.faults.stage import Stage
from tests.peers import scripted_dnscrypt


@scenario("40a", "DNSCrypt: UDP is blocked, TCP takes over", "together", needs="dnscrypt")
@scenario("40b", "DNSCrypt: UDP is blocked, TCP takes over, one query per connection", "one-shot", needs="dnscrypt")
async def udp_blocked(stage: Stage, report: Report, manners: str) -> None:
    """Under 50 queries/s UDP is blocked from the second second on, for 8 s.

    Every answer is right and there within 1 s, from the third second of that on within 0.35 s;
    within 15 s of the end of it queries go over UDP alone.
    """
    server = stage.peer(scripted_dnscrypt.DnsCrypt(manners=manners))
    clients = await stage.start(server.stamp)
    load = asyncio.create_task(clients.steady(50, 40))
    try:
        await asyncio.sleep(1)
        server.silent_udp = True
        blocked = time.monotonic()
        await asyncio.sleep(8)
        server.silent_udp = False
        healed = time.monotonic()
        while (back := _returned(server, healed)) > 15 and time.monotonic() < healed + 17:
            await asyncio.sleep(0.05)
    finally:
        load.cancel()
    await clients.settle()
    report.all_right(clients.record, 1.0)
    report.all_right(clients.record.between(blocked + 2, healed), 0.35, "from the third second on")
    report.expect(back <= 15, f"over UDP again after {back:.1f} s" if back <= 15 else "never came back to UDP")


def _returned(server: scripted_dnscrypt.DnsCrypt, healed: float) -> float:
    """Return how long after ``healed`` a second began in which queries came over UDP alone."""
    now = time.monotonic()
    begin = max([healed, *(packet.time for packet in server.asked.by("tcp"))])
    lately = sum(packet.time > now - 1 for packet in server.asked.by("udp"))
    return begin - healed if lately >= 40 and now - begin >= 1 else float("inf")


@scenario("41", "DNSCrypt: UDP is blocked from the start", needs="dnscrypt")
async def udp_blocked_from_the_start(stage: Stage, report: Report) -> None:
    """Nothing comes back over UDP, certificates neither; 50 queries/s for 4 s.

    The first is answered rightly within 0.6 s, the others within 0.35 s.
    """
    server = stage.peer(scripted_dnscrypt.DnsCrypt())
    server.silent_udp = True
    clients = await stage.start(server.stamp, warm=False)
    first = await clients.answer_to()
    report.expect(first.verdict == "right", f"first answer {first.verdict}")
    report.within(first.took, 0.6, "it came after")
    then = await clients.steady(50, 4)
    await clients.settle()
    report.all_right(then, 0.35, "then")


@scenario("42a", "DNSCrypt over TCP: one query per connection", "one-shot", 0.03, quick=True, needs="dnscrypt")
@scenario("42b", "DNSCrypt over TCP: one answer repeated in place of others", "repeats", 0.01, needs="dnscrypt")
@scenario("42c", "DNSCrypt over TCP: zero-length frames", "empty", 0.01, needs="dnscrypt")
@scenario("42d", "DNSCrypt over TCP: one query after the other", "serial", 0.01, needs="dnscrypt")
async def odd_manners(stage: Stage, report: Report, manners: str, delay: float) -> None:
    """TCP is preferred; 50 queries/s for 3 s, then 50 at once; answers take 10 ms, or 30 where each has its connection.

    What the server does, by the name: it closes after its first answer; it writes one answer, with
    its nonce, in place of all that are due at a time; it writes an empty frame before each
    answer and in place of certificates; it works on one query at a time. Every answer is right
    and there within 1 s.
    """
    server = stage.peer(scripted_dnscrypt.DnsCrypt(manners=manners))
    server.delay = delay
    clients = await stage.start(server.stamp + "?tcp")
    slowly = await clients.steady(50, 3)
    await clients.settle()
    report.all_right(slowly, 1.0, "at 50/s")
    at_once = clients.burst(50)
    await clients.settle()
    report.all_right(at_once, 1.0, "at once")
    by_tcp = sum(packet.note == "sealed" for packet in server.asked.by("tcp"))
    report.expect(by_tcp >= 150, f"{by_tcp} queries in {server.connections} connections")
