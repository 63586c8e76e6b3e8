"""DNSCrypt over UDP: packets that are lost, doubled, late or forged."""

from __future__ import annotations

import os

from tests.faults import anonymous
from tests.faults.client import shown
from tests.faults.registry import scenario
from tests.faults.report import Report
from tests.faults.stage import Stage
from tests.peers import lossy, relay, scripted_dnscrypt, sdns

RTT = 0.02


def lossy_way(stage: Stage, *, relayed: bool) -> tuple[lossy.Lossy, str]:
    """Return a way to a server, or to a relay before it, and the stamp of who is asked by it."""
    server = stage.peer(scripted_dnscrypt.DnsCrypt(host=anonymous.SERVER))
    target = stage.peer(relay.Relay()) if relayed else server
    way = stage.peer(lossy.Lossy(target.address, rtt=RTT))
    if relayed:
        return way, anonymous.through(sdns.relay(way.address), server.stamp)
    return way, sdns.dnscrypt(way.address, server.provider_key, server.provider)


@scenario("31a", "DNSCrypt: 20 % of packets lost each way", False, needs="dnscrypt")
@scenario("31b", "DNSCrypt: 20 % of packets lost each way to the relay", True, needs="dnscrypt")
async def packets_lost(stage: Stage, report: Report, relayed: bool) -> None:
    """The round trip is 20 ms; 100 queries/s for 2 s without loss, then for 10 s with 20 % of packets lost each way.

    Every answer is right and there within the forwarder's timeout; 95 % are there within three
    round trips and 200 ms of the median without loss.
    """
    way, stamp = lossy_way(stage, relayed=relayed)
    clients = await stage.start(stamp)
    await clients.steady(20, 1)  # for the forwarder to learn the round trip
    before = await clients.steady(100, 2)
    await clients.settle()
    report.all_right(before, what="without loss")
    median = before.quantile(0.5)
    way.loss = 0.2
    during = await clients.steady(100, 10)
    await clients.settle()
    report.all_right(during, anonymous.TIMEOUT, "with loss")
    report.note(f"median {shown(median)}, then {shown(during.quantile(0.5))}")
    report.within(during.quantile(0.95), median + 3 * RTT + 0.2, "95 % within")
    report.expect(clients.record.stray == 0, f"{clients.record.stray} stray")
    lost = way.counts["lost query"] + way.counts["lost answer"]
    passed = way.counts["passed query"]
    report.expect(lost > 300, f"{lost} packets lost, {passed} of {len(clients.record.asks)} queries got through")


@scenario("32", "DNSCrypt: packets doubled, late and forged", needs="dnscrypt")
async def packets_spoilt(stage: Stage, report: Report) -> None:
    """100 queries/s for 4 s; half of the packets come twice, a third 20 ms late; before each answer come two forged.

    One forged answer has the right nonce and a box of nothing, the other one bit of the right one
    changed. Every answer is right and there within 0.3 s, over UDP alone, and no query is answered twice.
    """
    way, stamp = lossy_way(stage, relayed=False)
    clients = await stage.start(stamp)
    before = way.connections
    way.rewrite_answer = lambda data: [data[:32] + os.urandom(len(data) - 32), _one_bit_off(data), data]
    way.duplicate, way.reorder = 0.5, 0.33
    await clients.steady(100, 4)
    await clients.settle()
    report.all_right(clients.record, 0.3)
    report.expect(way.connections == before, f"{way.connections - before} connections over TCP")


def _one_bit_off(data: bytes) -> bytes:
    return data[:-1] + bytes((data[-1] ^ 1,))
