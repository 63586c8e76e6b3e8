"""Anonymized DNSCrypt: relays that die, lie or drop. What is never an answer to that: asking without a relay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tests import provider
from tests.faults import anonymous
from tests.faults.client import Ask, Record
from tests.faults.registry import scenario
from tests.faults.report import Report
from tests.faults.stage import Stage
from tests.peers import relay, scripted_dnscrypt

BACK = 15.0  # by when queries are at the first relay again: between two trials are eight seconds at most


@scenario("37a", "DNSCrypt: a relay dies, its port refuses", "dies", needs="dnscrypt")
@scenario("37b", "DNSCrypt: a relay dies without a word", "silent", needs="dnscrypt")
@scenario("37c", "DNSCrypt: a relay answers garbage", "garbage", needs="dnscrypt")
async def relay_fails(stage: Stage, report: Report, fault: str) -> None:
    """Of two relays in order, under 50 queries/s, the first is faulty for 4 s: it refuses, is silent, or tells garbage.

    Every answer is right and there within 1 s; zero packets direct; within 15 s of its recovery
    the first relay has queries again.
    """
    server = stage.peer(scripted_dnscrypt.DnsCrypt(host=anonymous.SERVER))
    first, second = stage.peer(relay.Relay()), stage.peer(relay.Relay())
    clients = await stage.start(anonymous.via(first, server), anonymous.via(second, server))
    load = asyncio.create_task(clients.steady(50, 30))
    try:
        await asyncio.sleep(1)
        _spoil(first, fault)
        await asyncio.sleep(4)
        took_over = len(second.passed)
        first.heal()
        if fault == "dies":
            first.revive()
        healed = time.monotonic()
        while (back := _returned(first, second, healed)) > BACK and time.monotonic() < healed + BACK + 2:
            await asyncio.sleep(0.05)
    finally:
        load.cancel()
    await clients.settle()
    report.all_right(clients.record, 1.0)
    report.expect(took_over > 50, f"{took_over} answers through the second")
    report.expect(back <= BACK, f"queries back at the first after {back:.1f} s" if back <= BACK else "never came back")
    anonymous.only_relays(report, server)


def _spoil(one: relay.Relay, fault: str) -> None:
    if fault == "dies":
        one.die()
    else:
        setattr(one, fault, True)


def _returned(first: relay.Relay, second: relay.Relay, healed: float) -> float:
    """Return how long after ``healed`` a second began in which the first relay alone passed on answers."""
    now = time.monotonic()
    begin = max([healed, *(packet.time for packet in list(second.passed.packets))])
    lately = sum(packet.time > now - 1 for packet in list(first.passed.packets))
    return begin - healed if lately >= 40 and now - begin >= 1 else float("inf")


@scenario("38a", "DNSCrypt: the only relay dies, its port refuses", "dies", needs="dnscrypt")
@scenario("38b", "DNSCrypt: the only relay dies without a word", "silent", quick=True, needs="dnscrypt")
@scenario("38c", "DNSCrypt: the only relay answers garbage", "garbage", needs="dnscrypt")
async def only_relay_fails(stage: Stage, report: Report, fault: str) -> None:
    """Under 20 queries/s the only relay is faulty for 5 s: it refuses, is silent, or answers garbage.

    Those asked in its first half second get SERVFAIL with a reason, within the forwarder's timeout (and
    0.1 s), and no query has less; zero packets direct; the first query after the relay's return
    is answered rightly within 2 s.
    """
    server = stage.peer(scripted_dnscrypt.DnsCrypt(host=anonymous.SERVER))
    way = stage.peer(relay.Relay())
    clients = await stage.start(anonymous.via(way, server))
    await clients.steady(20, 0.5)
    await clients.settle()
    _spoil(way, fault)
    await asyncio.sleep(0.05)  # for what it had taken before
    broken = time.monotonic()
    before = len(server.asked)
    during = await clients.steady(20, 5)
    if fault != "garbage":
        report.expect(len(server.asked) == before, f"{len(server.asked) - before} packets came to the server")
    way.heal()
    if fault == "dies":
        way.revive()
    first = await clients.answer_to(patience=8)
    await clients.settle()
    anonymous.servfail_with_reason(report, during.between(broken, broken + 0.5))
    answered = [ask for ask in during.asks if ask.verdict == "right" or (ask.verdict == "servfail" and ask.reason)]
    report.expect(len(answered) == len(during.asks), f"in all {during}")
    report.expect(first.verdict == "right", f"first answer after the return {first.verdict}")
    report.within(first.took, 2.0, "it came after")
    report.expect(clients.record.stray == 0, f"{clients.record.stray} stray")
    anonymous.only_relays(report, server)


SIZES = (200, 500, 800, 1000)  # of answers: through a relay that drops what is longer than 1200 bytes


@scenario("39", "DNSCrypt: a relay drops what is longer than 1200 bytes", needs="dnscrypt")
async def relay_drops_large(stage: Stage, report: Report) -> None:
    """50 queries/s for 6 s, with answers of 200 to 1000 bytes; and each second one whose answer has 3000.

    Every answer but those is right and whole, and there within 0.5 s. Those are cut short (TC), or
    SERVFAIL with the reason, within the forwarder's timeout; they cost the others nothing.
    Zero packets direct.
    """
    server = stage.peer(scripted_dnscrypt.DnsCrypt(2, 3, host=anonymous.SERVER))
    way = stage.peer(relay.Relay())
    way.drop_above = 1200
    server.answer = _with_size
    clients = await stage.start(anonymous.via(way, server))
    load = asyncio.create_task(_ask_all_sizes(clients.ask, 6))
    large = [clients.ask("s3000")]
    for _ in range(5):
        await asyncio.sleep(1)
        large.append(clients.ask("s3000"))
    small = await load
    await clients.settle()
    report.all_right(Record(small), 0.5)
    said = ["cut short" if ask.cut_short else ask.verdict for ask in large]
    report.expect(set(said) <= {"cut short", "servfail"}, f"the large ones: {', '.join(said)}")
    report.within(max(ask.took for ask in large), anonymous.TIMEOUT + 0.1, "the last after")
    anonymous.only_relays(report, server)


async def _ask_all_sizes(ask: Callable[[str], Ask], seconds: float) -> list[Ask]:
    """Ask 50 queries/s whose answers have the sizes in turn."""
    asks = []
    begin = time.monotonic()
    for number in range(int(50 * seconds)):
        asks.append(ask(f"s{SIZES[number % len(SIZES)]}"))
        await asyncio.sleep(max(0.0, begin + (number + 1) / 50 - time.monotonic()))
    return asks


def _with_size(query: bytes) -> bytes:
    """Answer rightly, with the size that the first label asks for; there is text beside the address for that."""
    answer = scripted_dnscrypt.right_answer(query)
    label = query[13 : 13 + query[12]]
    if not label.startswith(b"s"):
        return answer
    text = provider.strings(bytes(max(1, int(label[1:]) - len(answer) - 20)))
    return answer[:10] + b"\0\2" + answer[12:] + provider.record(text)  # an additional one
