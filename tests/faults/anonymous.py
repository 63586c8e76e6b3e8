"""DNSCrypt through relays: who sees whom is told by addresses of the loopback net.

Servers stand at ``SERVER``; the forwarder asks from 127.0.0.1, relays ask on from ``BEHIND``. So
whatever reaches a server from another address than ``BEHIND`` came past the relay.
"""

from __future__ import annotations

from tests.faults.client import Record
from tests.faults.report import Report
from tests.peers import relay, scripted_dnscrypt

SERVER = "127.0.0.3"  # not the relays' own address, which is refused
BEHIND = "127.0.0.2"

TIMEOUT = 4.0  # the forwarder's own, by when every query has its answer or SERVFAIL; it is as it comes


def through(way: str, server: str) -> str:
    """Return the stamp of a server asked through a relay, from theirs."""
    return f"{way}/{server.removeprefix('sdns://')}"


def via(way: relay.Relay, server: scripted_dnscrypt.DnsCrypt) -> str:
    return through(way.stamp, server.stamp)


def only_relays(report: Report, server: scripted_dnscrypt.DnsCrypt) -> None:
    """Expect that nobody but relays has reached the server, and that they have."""
    direct = sum(packet.source != BEHIND for packet in list(server.asked.packets)) + server.connections
    report.expect(direct == 0, f"{direct} packets direct")
    report.expect(BEHIND in server.asked.sources, f"{len(server.asked)} from relays")


def servfail_with_reason(report: Report, record: Record) -> None:
    """Expect SERVFAIL for every query, with a reason, within the forwarder's timeout and a tenth of a second."""
    told = record.count("servfail") == len(record.asks) and all(ask.reason for ask in record.asks)
    report.expect(told, f"{record}, {len({ask.reason for ask in record.asks if ask.reason})} reasons")
    report.within(record.worst, TIMEOUT + 0.1, "the last after")
