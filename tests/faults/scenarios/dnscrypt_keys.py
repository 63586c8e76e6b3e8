"""DNSCrypt servers that change their keys, with a word or without, and certificates that end."""

from __future__ import annotations

import asyncio
import time

from tests.faults import anonymous
from tests.faults.registry import scenario
from tests.faults.report import Report
from tests.faults.stage import Stage
from tests.peers import relay, scripted_dnscrypt

# Silence is known from loss by three retransmissions in a row, and a certificate has to be fetched.
NOTICED = 1.0


@scenario("33a", "DNSCrypt: new keys without warning", "", quick=True, needs="dnscrypt")
@scenario("33b", "DNSCrypt: new keys without warning, over TCP", "?tcp", needs="dnscrypt")
async def keys_change(stage: Stage, report: Report, how: str) -> None:
    """Under 50 queries/s for 4 s, the server has new keys after one second and after three, and refuses the old.

    Every answer is right and there within 1 s.
    """
    server = stage.peer(scripted_dnscrypt.DnsCrypt())
    clients = await stage.start(server.stamp + how)
    load = asyncio.create_task(clients.steady(50, 4))
    for wait in (1, 2):
        await asyncio.sleep(wait)
        server.rotate()
    await load
    await clients.settle()
    report.all_right(clients.record, NOTICED)
    fetched = server.asked.notes.count("certificate")
    report.expect(fetched <= 3 + 6, f"{fetched} queries for certificates")


@scenario("34", "DNSCrypt: the certificate ends", needs="dnscrypt")
async def certificate_ends(stage: Stage, report: Report) -> None:
    """Under 50 queries/s for 6 s the certificate ends after 2 to 3 s; its successor is shown 0.5 s after that.

    Every answer is right and there within 2 s (the half second, and the next query for a
    certificate, which may be a second away). Nothing arrives under the old certificate later
    than 50 ms after its end.
    """
    server = stage.peer(scripted_dnscrypt.DnsCrypt(lifetime=4))
    old, ends = server.shown[0], int.from_bytes(server.shown[0][120:124], "big") + 1
    clients = await stage.start(server.stamp)
    await asyncio.sleep(max(0.0, ends - 2.5 - time.time()))
    load = asyncio.create_task(clients.steady(50, 6))
    await asyncio.sleep(max(0.0, ends - time.time()))
    end = time.monotonic()
    server.known = {}
    await asyncio.sleep(0.5)
    server.rotate()
    await load
    await clients.settle()
    report.all_right(clients.record, 2.0)
    late = [p.time - end for p in list(server.asked.packets) if p.data[:8] == old[104:112] and p.time > end + 0.05]
    report.expect(not late, f"{len(late)} packets under a certificate that was over")


@scenario("35a", "DNSCrypt: server restarts with new keys", "", needs="dnscrypt")
@scenario("35b", "DNSCrypt: server restarts with new keys, over TCP", "?tcp", needs="dnscrypt")
async def server_restarts(stage: Stage, report: Report, how: str) -> None:
    """Under 50 queries/s for 5 s, the server ends after one second, its port closed for 1 s; it has new keys then.

    Every answer is right and there within 2.5 s (a second without a server, and one and a half to find that out).
    """
    server = stage.peer(scripted_dnscrypt.DnsCrypt())
    clients = await stage.start(server.stamp + how)
    load = asyncio.create_task(clients.steady(50, 5))
    await asyncio.sleep(1)
    server.stop()
    server.rotate()
    await asyncio.sleep(1)
    server.start()
    await load
    await clients.settle()
    report.all_right(clients.record, 2.5)


@scenario("36", "DNSCrypt: new keys, and a relay that remembers the old", needs="dnscrypt")
async def relay_remembers(stage: Stage, report: Report) -> None:
    """Of two relays in order the first hands out the certificate it passed once, as all do for ten minutes.

    Under 50 queries/s for 4 s the server has new keys after one second, and refuses the old.
    Every answer is right and there within 1 s; zero packets direct.
    """
    server = stage.peer(scripted_dnscrypt.DnsCrypt(host=anonymous.SERVER))
    first, second = stage.peer(relay.Relay()), stage.peer(relay.Relay())
    clients = await stage.start(anonymous.via(first, server), anonymous.via(second, server))
    load = asyncio.create_task(clients.steady(50, 4))
    await asyncio.sleep(1)
    server.rotate()
    await load
    await clients.settle()
    report.all_right(clients.record, NOTICED)
    anonymous.only_relays(report, server)
