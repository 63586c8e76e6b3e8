"""dnsdist as a DNSCrypt server does what the tests that use it rely on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from _udp2tls import certificate
from tests.peers import asking, dnscrypt, late, sealing

pytestmark = pytest.mark.peers

Server = dnscrypt.DnsCrypt


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One of both systems that takes queries together, with a slow resolver behind it."""
    with (
        late.Late() as backend,
        Server(tmp_path_factory.mktemp("dnscrypt"), in_flight=100, backend=backend.port) as program,
    ):
        yield program


def client_of(server: Server) -> sealing.Sealing:
    return sealing.Sealing(server.address, server.provider, server.provider_key)


@pytest.mark.parametrize("es_version", [dnscrypt.XSALSA20, dnscrypt.XCHACHA20])
def test_it_answers_sealed_queries_of_one_system(tmp_path: Path, es_version: int) -> None:
    with Server(tmp_path, es_versions=[es_version]) as server:
        client = client_of(server)
        assert client.fetch().es_version == es_version
        for transport in ("udp", "tcp"):
            message = asking.make_query("q1.n3.test.example")
            assert asking.is_right(message, client.ask(transport, message, size=256))


def test_of_two_systems_both_are_shown_and_the_better_is_newer(server: Server) -> None:
    asked = certificate.query(server.provider, b"id", size=1232)
    answer = asking.ask_udp(server.port, asked)
    assert [one[4:6] for one in certificate.records(answer)] == [b"\0\1", b"\0\2"]
    assert client_of(server).fetch().es_version == dnscrypt.XCHACHA20


def test_large_answers_are_cut_short_over_udp_only(server: Server) -> None:
    client = client_of(server)
    client.fetch()
    message = asking.make_query("large.test.example", asking.TXT, opt=asking.opt_record(4096))
    assert client.ask("udp", message)[2] & 2
    whole = client.ask("tcp", message, size=256)
    assert not whole[2] & 2
    assert len(whole) > 4000


def test_late_answers_overtake_each_other(server: Server) -> None:
    client = client_of(server)
    client.fetch()
    queries = [asking.make_query(f"n{n}.d{n}0.{late.ZONE}") for n in (9, 5, 0)]
    answers = client.ask_together(queries)
    assert [asking.question_of(answer) for answer in answers] == [asking.question_of(one) for one in queries[::-1]]


def test_without_in_flight_they_wait_for_each_other(tmp_path: Path) -> None:
    with late.Late() as backend, Server(tmp_path, backend=backend.port) as server:
        client = client_of(server)
        client.fetch()
        queries = [asking.make_query(f"n{n}.d{n}0.{late.ZONE}") for n in (9, 5, 0)]
        answers = client.ask_together(queries)
        assert [asking.question_of(answer) for answer in answers] == [asking.question_of(one) for one in queries]


def test_the_server_says_who_asked(server: Server) -> None:
    client = client_of(server)
    client.source = "127.0.0.9"
    client.fetch()
    client.ask("udp", asking.make_query("n1.test.example"))
    assert "127.0.0.9" in server.clients()


@pytest.mark.parametrize("keep", [True, False])
def test_it_rotates(keep: bool, server: Server) -> None:
    client = client_of(server)
    before = client.fetch()
    message = asking.make_query("n2.test.example")
    serial = server.rotate(keep=keep)
    if keep:
        assert asking.is_right(message, client.ask("udp", message))
    else:
        assert client.fate("udp", client.seal(message)[0]) == "silence"
        assert client.fate("tcp", client.seal(message)[0]) == "end"
    after = client.fetch()
    assert after.serial == serial > before.serial
    assert after.es_version == before.es_version
    assert asking.is_right(message, client.ask("udp", message))
    assert asking.is_right(message, client.ask("tcp", message, size=256))


def test_certificates_may_be_short_lived(server: Server) -> None:
    server.rotate(lifetime=300)
    client = client_of(server)
    assert 0 < client.fetch().ends - time.time() <= 300
    with pytest.raises(certificate.NoCertificate, match="expired"):
        client.fetch(now=time.time() + 301)
    server.rotate(lifetime=86400)


def test_a_restart_keeps_the_keys(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        client = client_of(server)
        before = client.fetch()
        server.stop()
        server.start()
        assert client.fetch() == before
