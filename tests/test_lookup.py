"""Looking up an upstream's name through something that asks."""

from __future__ import annotations

import pytest
from dnslib import RR, DNSRecord

from _udp2tls import lookup, system
from _udp2tls.config import Config, parse_upstream


def test_both_families_are_asked_for_and_found() -> None:
    asked = []

    def ask(message: bytes) -> bytes:
        query = DNSRecord.parse(message)
        asked.append((str(query.q.qname), query.q.qtype))
        reply = query.reply()
        reply.add_answer(*RR.fromZone("alias.example 60 CNAME dns.example"))
        record = "A 192.0.2.1" if query.q.qtype == 1 else "AAAA 2001:db8::1"
        reply.add_answer(*RR.fromZone(f"dns.example 60 {record}"))
        return bytes(reply.pack())

    assert lookup.through(ask, "alias.example") == (["192.0.2.1", "2001:db8::1"], "")
    assert asked == [("alias.example.", 1), ("alias.example.", 28)]


def test_no_address_is_explained() -> None:
    def nothing(message: bytes) -> bytes:
        return bytes(DNSRecord.parse(message).reply().pack())

    def servfail(message: bytes) -> bytes:
        reply = DNSRecord.parse(message).reply()
        reply.header.rcode = 2
        return bytes(reply.pack())

    assert lookup.through(nothing, "dns.example") == ([], "the name has no address")
    assert lookup.through(servfail, "dns.example") == ([], "the bootstrap resolver says SERVFAIL")
    hosts, reason = lookup.through(lambda message: b"garbage", "dns.example")
    assert hosts == []
    assert reason.startswith("the bootstrap resolver cannot be understood: ")
    assert lookup.through(servfail, "dns.example", "the upstream") == ([], "the upstream says SERVFAIL")


def test_without_bootstrap_resolvers_the_systems_resolver_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(upstreams=(parse_upstream("tls://192.0.2.1"),))

    def nothing(host: str) -> list[str]:
        raise OSError(-2, f"{host} is not known")

    monkeypatch.setattr(system, "addresses_of", lambda host: ["192.0.2.7"])
    assert lookup.addresses(None, config, "dns.example") == (["192.0.2.7"], "")
    monkeypatch.setattr(system, "addresses_of", nothing)
    assert lookup.addresses(None, config, "x.example") == ([], "the system's resolver says: x.example is not known")
