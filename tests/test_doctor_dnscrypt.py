"""What ``--doctor`` says of good and bad DNSCrypt resolvers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from _udp2tls import box, certificate, doctor, doctor_dnscrypt, relay
from _udp2tls.config import Config, Endpoint
from tests.dnscrypt_world import SERVER, World
from tests.provider import DAY, NAME, NOW, Resolver

needs_xwing = pytest.mark.skipif(bool(box.why_not(box.XWING)), reason=box.why_not(box.XWING))


def run(world: World, **given: object) -> tuple[int, str]:
    """Return the exit status, and the last word on the upstream."""
    status = doctor.run(Config((world.spec(**given),), ()), world.tools)  # type: ignore[arg-type]
    text = "\n".join(world.said)
    for line in text.splitlines():
        assert len(line) <= 100
        assert line == line.rstrip()
    return status, " ".join(text[text.rindex("\n  ==> ") : text.rindex("\n\n")].split())


def test_a_good_resolver_is_usable_and_everything_is_said() -> None:
    world = World(Resolver(2), Resolver(2, b"s" * 32, b"magic-02"))
    world.certificates[1] = world.resolvers[1].certificate(world.provider, serial=7)
    status, verdict = run(world)
    assert (status, verdict) == (0, "==> usable")
    for said in (
        f"upstream 1: dnscrypt://192.0.2.1:8443#{NAME} 192.0.2.1:8443 provider {NAME} key ",
        f" key {world.provider.public.hex()} UDP ",
        "UDP a certificate in 20 ms NOERROR to the query for the root's NS, in 20 ms",
        "padding queries of at least 448 bytes",
        "certificate 1 es_version 2 serial 1 cipher X25519-XChaCha20Poly1305 valid 2026-09-21",
        "24 hours left key ", "used no: there is a better one certificate 2 es_version 2 serial 7", "used yes",
        "clock this machine's agrees with the certificates", "TCP connected in 30 ms, a certificate in 20 ms",
        "connections persistent, several queries at once: 8 answered in order in",
        "1 of 1 upstreams usable; listening addresses free",
    ):  # fmt: skip
        assert said in world.text
    assert "FAILED" not in world.text


def test_through_a_relay_that_is_said_and_a_neighbour_is_warned_of() -> None:
    world = World(tcp="one-shot", prefix=relay.prefix(*SERVER))
    status, _ = run(world, relay=Endpoint("192.0.2.9", 443))
    assert status == 0
    assert "relay everything goes to 192.0.2.9:443, nothing to 192.0.2.1 itself" in world.text
    assert "in one network, 192.0.2.0/24" in world.text
    assert "padding queries of at least 768 bytes" in world.text
    assert "connections one query a connection" in world.text


@pytest.mark.parametrize(
    ("udp", "tcp", "status", "said"),
    [
        ("silent", "together", 0, "usable over TCP alone: UDP to port 8443 is blocked or dead; write ?tcp after"),
        ("refuses", "together", 0, "usable over TCP alone"),
        ("mute", "together", 0, "usable over TCP alone"),
        ("answers", "refuses", 0, "usable over UDP alone: answers that have no room in a datagram cannot be had"),
        ("silent", "silent", 1, "NOT usable: no answer to the query for a certificate, neither over UDP nor over TCP"),
        ("refuses", "refuses", 1, "is the network up, are address and port right?"),
        ("mute", "closes", 1, "NOT usable: there is a certificate, but no answer to a query"),
        ("long", "silent", 1, "the certificates have no room in a datagram, and TCP"),
    ],
)
def test_ways_that_fail_and_what_to_do(udp: str, tcp: str, status: int, said: str) -> None:
    world = World(udp=udp, tcp=tcp)
    found, verdict = run(world)
    assert found == status
    assert said in verdict
    assert "FAILED" in world.text


def test_a_silent_relay_is_not_gone_around() -> None:
    world = World(udp="silent", tcp="refuses", prefix=relay.prefix(*SERVER))
    status, verdict = run(world, relay=Endpoint("198.51.100.1", 443))
    assert status == 1
    assert "name another relay. The server itself was not asked" in verdict
    assert world.addresses == {Endpoint("198.51.100.1", 443)}


def test_a_stamp_with_another_key_is_found_out() -> None:
    world = World()
    status, verdict = run(world, key=bytes(range(32)))
    assert status == 1
    assert "get the stamp anew from the resolver's operator: its key is not the one that signed" in verdict
    assert "serial 1, NOT SIGNED by the provider: a claim and no more" in world.text
    assert "used no: not signed by the provider's key" in world.text
    assert "clock this" not in world.text, "what nobody signed says nothing about the clock"


@pytest.mark.parametrize(
    ("begins", "ends", "shown", "clock"),
    [
        (NOW - DAY, NOW - 5, "EXPIRED", "past the certificates"),
        (NOW + DAY, NOW + 2 * DAY, "NOT YET VALID", "before the first certificate begins"),
    ],
)
def test_a_certificate_out_of_its_time_makes_the_clock_suspect(begins: int, ends: int, shown: str, clock: str) -> None:
    world = World()
    world.certificates = [world.resolvers[0].certificate(world.provider, begins=begins, ends=ends)]
    status, verdict = run(world)
    assert status == 1
    assert shown in world.text
    assert clock in world.text
    assert "this machine's clock says 2026-09-21" in verdict
    assert "set the clock if it is wrong" in verdict


def test_es_version_1_may_need_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "es_version 1 (X25519-XSalsa20Poly1305) needs the package PyNaCl: pip install 'udp2tls[xsalsa20]'"
    monkeypatch.setattr(box, "why_not", lambda version: said if version == 1 else "")
    world = World(Resolver(1))
    status, verdict = run(world)
    assert status == 1
    assert f"used no: {said}" in world.text
    assert "install what is missing: pip install 'udp2tls[xsalsa20]'" in verdict


@pytest.mark.parametrize(
    ("record", "shown", "to_do"),
    [
        (b"DNSC\0\x09" + bytes(200), "certificate 1 es_version 9 used no: this program does not know its encryption",
         "a newer version of udp2tls"),
        (b"v=spf1 -all", "certificate 1 none used no: a TXT record is no certificate", "is this a DNSCrypt server?"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said(record: bytes, shown: str, to_do: str) -> None:
    world = World()
    world.certificates = [record]
    status, verdict = run(world)
    assert status == 1
    assert shown in world.text
    assert to_do in verdict


def test_a_name_that_the_server_does_not_know() -> None:
    world = World()
    world.name_known = False
    status, verdict = run(world)
    assert status == 1
    assert "the server does not know the provider's name that the stamp has" in verdict


@pytest.mark.parametrize(("rcode", "status"), [(0, 0), (3, 0), (2, 1), (5, 1), (9, 1)])
def test_a_resolver_that_refuses_is_not_usable(rcode: int, status: int) -> None:
    world = World()
    world.rcode = rcode
    found, verdict = run(world)
    assert found == status
    assert ("NOT usable: it answers" in verdict) == bool(status)


@needs_xwing
def test_post_quantum_certificates_come_over_tcp_and_serve_udp() -> None:
    world = World(Resolver(2), Resolver(3, b"x" * 32, b"magic-03"))
    status, verdict = run(world)
    assert (status, verdict) == (0, "==> usable")
    assert "UDP FAILED: the answer holds no certificate and was cut short" in world.text
    assert "certificate 2 es_version 3 serial 1 cipher XWing-XChaCha20Poly1305" in world.text
    assert "UDP again with the certificate that came over TCP NOERROR" in world.text


def test_certificates_in_between_make_nobody_suspect() -> None:
    one = certificate.Certificate(2, 0, bytes(32), b"m" * 8, 1, 100, 200)
    offers = [certificate.Offer(2, replace(one, begins=at, ends=at + 100), signed=True) for at in (100, 400)]
    assert "agrees" in doctor_dnscrypt._clock(offers, 450.0)
    assert "past the certificates" in doctor_dnscrypt._clock(offers, 300.0)
