"""The scripted DNSCrypt server has the keys and the manners it is told to have."""

from __future__ import annotations

import time

import pytest

from _udp2tls import box, certificate, stamps
from tests.peers import asking, scripted_dnscrypt, sdns, sealing

pytestmark = pytest.mark.peers

Server = scripted_dnscrypt.DnsCrypt


def client_of(server: Server) -> sealing.Sealing:
    client = sealing.Sealing(server.address, server.provider, server.provider_key)
    client.fetch(size=3200)
    return client


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("es_version", [1, 2, 3])
def test_it_answers_in_every_system(es_version: int, transport: str) -> None:
    if said := box.why_not(es_version):
        pytest.skip(said)
    with Server(es_version) as server:
        client = client_of(server)
        assert client.certificate
        assert client.certificate.es_version == es_version
        for serial in range(3):
            message = asking.make_query(asking.numbered(serial))
            assert asking.is_right(message, client.ask(transport, message))
        assert server.asked.notes == ["certificate", *["sealed"] * 3]
        assert server.served() == (["text", "resumed", "resumed"] if es_version == 3 else ["shared"] * 3)
        server.asked.assert_only_from("127.0.0.1")


def test_certificates_come_over_tcp_and_are_cut_short_over_udp() -> None:
    with Server(2, 2, 2) as server:
        client = client_of(server)
        assert client.fetch("tcp", size=0).serial == 3
        assert client.fetch(size=0).serial == 1
        assert client.fetch(size=340).serial == 2
        assert client.fetch(size=480).serial == 3


def test_the_large_certificate_needs_a_large_query_over_udp() -> None:
    if said := box.why_not(box.XWING):
        pytest.skip(said)
    with Server(2, 3) as server:
        client = client_of(server)
        assert client.fetch(size=1232).es_version == 2
        assert client.fetch(size=1536).es_version == 3
    with Server(3) as server:
        client = client_of(server)
        with pytest.raises(certificate.NoCertificate) as told:
            client.fetch(size=1232)
        assert told.value.truncated


def test_no_answer_over_udp_is_longer_than_its_query() -> None:
    with Server() as server:
        client = client_of(server)
        message = asking.make_query("large.test.example", asking.TXT)
        sealed, one, _ = client.seal(message, 256)
        answer = client.exchange("udp", sealed)
        assert len(answer) <= len(sealed)
        assert one.open(answer)[2] & 2
        assert len(client.ask("udp", message, size=4544)) > 4000
        assert len(client.ask("tcp", message, size=256)) > 4000


QUERIES = [asking.make_query(f"n{n}.d{n}0.test.example", id=n) for n in (9, 5, 1)]
NINE, FIVE, ONE = QUERIES


@pytest.mark.parametrize(
    ("manners", "came"),
    [
        ("together", [ONE, FIVE, NINE]), ("serial", QUERIES), ("one-shot", [NINE]), ("mute", []), ("drops", []),
    ],
)  # fmt: skip
def test_manners_on_a_connection(manners: str, came: list[bytes]) -> None:
    with Server(manners=manners) as server:
        answers = client_of(server).ask_together(QUERIES, patience=0.3 if manners == "mute" else 5)
        assert [answer[:2] for answer in answers] == [query[:2] for query in came]
        assert all(asking.is_right(query, answer) for query, answer in zip(came, answers))
        assert server.pipelined == (3 if manners == "together" else 0)
        assert server.connections == 1


def test_it_repeats_an_answer_in_place_of_others() -> None:
    with Server(manners="repeats") as server:
        server.delay = 0.05
        queries = [asking.make_query(asking.numbered(n), id=n) for n in range(5)]
        answers = client_of(server).ask_together(queries)
        assert len(answers) == 5
        assert len({answer[:2] for answer in answers}) < 5


def test_a_rotation_without_warning_leaves_queries_unanswered() -> None:
    with Server() as server:
        client = client_of(server)
        message = asking.make_query("n1.test.example")
        server.rotate(keep=True)
        assert asking.is_right(message, client.ask("udp", message))
        server.rotate()
        assert client.fate("udp", client.seal(message)[0]) == "silence"
        assert client.fate("tcp", client.seal(message)[0]) == "end"
        assert server.asked.notes[-2:] == ["unknown", "unknown"]
        assert client.fetch().serial == 3
        assert asking.is_right(message, client.ask("udp", message))


def test_its_certificates_may_be_over_or_have_one_serial() -> None:
    with Server() as server:
        client = client_of(server)
        server.expire()
        with pytest.raises(certificate.NoCertificate, match="expired"):
            client.fetch()
        server.rotate(1, 2, serial=7, lifetime=100)
        found = client.fetch()
        assert (found.serial, found.es_version) == (7, 2)
        assert found.ends <= time.time() + 100


def test_tickets_are_lost_with_the_keys() -> None:
    if said := box.why_not(box.XWING):
        pytest.skip(said)
    with Server(3) as server:
        client = client_of(server)
        message = asking.make_query("n1.test.example")
        client.ask("tcp", message)
        server.rotate()
        assert client.fate("tcp", client.seal(message)[0]) == "end"


def test_the_stamp_is_one_that_can_be_read() -> None:
    with Server(host="::1") as server:
        found = stamps.parse(server.stamp)
        assert (found.kind.name, found.address) == ("DNSCRYPT", f"[::1]:{server.port}")
        assert (found.provider, found.key) == (server.provider, server.provider_key)
    found = stamps.parse(sdns.relay(("127.0.0.2", 443)))
    assert (found.kind.name, found.ip, found.port) == ("DNSCRYPT_RELAY", "127.0.0.2", 443)
