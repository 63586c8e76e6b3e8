"""What is learned of a server, step by step; and that nothing is asked of one that is not authenticated."""

from __future__ import annotations

import ssl

import pytest

from _udp2tls import checkup, edns, wire
from _udp2tls.codec import CertificateError, ConnectionLost, ProtocolError
from _udp2tls.config import Endpoint
from _udp2tls.tls import Session, client_context
from tests import authority, resolver
from tests.peers.scripted import context_for
from tests.resolver import CONNECT, TURN, Connection, World, answer

AT = Endpoint("192.0.2.53", 853)


def good(certs: authority.Authority) -> ssl.SSLContext:
    context = context_for(certs.server_cert, certs.server_key)
    context.set_alpn_protocols(["dot"])
    return context


def session(certs: authority.Authority) -> Session:
    return Session(client_context(certs.ca_file), authority.NAME)


def examine(world: World, certs: authority.Authority) -> checkup.Findings:
    found = checkup.examine(AT, session(certs), world.tools)
    assert all(connection.closed for connection in world.connections)
    return found


def test_a_good_server_is_measured(certs: authority.Authority) -> None:
    world = World(good(certs))
    found = examine(world, certs)
    assert found.error is None
    assert found.authenticated
    assert found.connect == pytest.approx(CONNECT)
    assert found.handshake == pytest.approx(TURN)
    assert found.round_trip == pytest.approx(TURN)
    assert (found.about["version"], found.about["alpn"]) == ("TLSv1.3", "dot")
    assert len(found.chain) == 2
    assert found.leaf["subjectAltName"][0] == ("DNS", authority.NAME)
    assert found.rcode == "NOERROR"
    assert found.pipelining.startswith("in order: 8 queries sent at once, all answered in 20 ms")
    assert found.resumption.startswith("yes")
    for connection in world.connections:
        assert connection.codec is not None
        assert connection.codec.closing, "it was told goodbye"


def test_tls_1_2_is_measured_as_well(certs: authority.Authority) -> None:
    context = good(certs)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    found = examine(World(context), certs)
    assert found.about["version"] == "TLSv1.2"
    assert found.handshake == pytest.approx(2 * TURN)
    assert found.resumption == "yes: second handshake in 20 ms, the first in 40 ms"


def test_queries_are_distinct_padded_and_under_the_root(certs: authority.Authority) -> None:
    world = World(good(certs))
    examine(world, certs)
    first, second = world.connections
    assert not second.queries, "the second connection is for its handshake alone"
    assert len(first.queries) == 9
    assert all(len(query) % edns.BLOCK == 0 for query in first.queries)
    asked = [query[12 : wire.question_end(query)] for query in first.queries]
    assert len(set(asked)) == 8, "the root's NS twice, all others once"
    assert asked[0] == asked[-1] == b"\0\0\2\0\1"
    assert all(name[0] in (0, 12) for name in asked)
    assert len({query[:2] for query in first.queries[1:]}) == 8


def backwards(connection: Connection, queries: list[bytes]) -> None:
    connection.send([answer(query) for query in reversed(queries)])


def one_of_each_batch(connection: Connection, queries: list[bytes]) -> None:
    connection.send([answer(queries[0])])


def one_shot(connection: Connection, queries: list[bytes]) -> None:
    connection.send([answer(queries[0])])
    connection.hang_up()


def three_of_the_batch(connection: Connection, queries: list[bytes]) -> None:
    connection.send([answer(query) for query in queries[:3]])
    if len(queries) > 1:
        connection.hang_up()


def five_of_the_batch(connection: Connection, queries: list[bytes]) -> None:
    connection.send([answer(query) for query in queries[:5]])


def nonsense_after_one(connection: Connection, queries: list[bytes]) -> None:
    if len(queries) == 1:
        connection.send([answer(queries[0])])
    else:
        connection._out += b"nonsense" * 4


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (backwards, "out of order"),
        (one_of_each_batch, "only one at a time"),
        (one_shot, "closes after one answer:"),
        (three_of_the_batch, "closes after 4 answers:"),
        (five_of_the_batch, "5 of 8 queries sent at once were answered in 5 s"),
        (nonsense_after_one, "breaks the protocol after 1 answers: TLS"),
    ],
)
def test_how_it_takes_many_queries_at_once(script: resolver.Script, said: str, certs: authority.Authority) -> None:
    found = examine(World(good(certs), script), certs)
    assert found.error is None
    assert found.pipelining.startswith(said)
    assert found.resumption.startswith("yes")


def test_answers_to_other_questions_do_not_count(certs: authority.Authority) -> None:
    def confused(connection: Connection, queries: list[bytes]) -> None:
        other = queries[0][:12] + b"\1x\0\0\1\0\1"
        connection.send([queries[0], answer(other), b"\0" * 5, answer(b"\0\0" + queries[0][2:])])

    world = World(good(certs), confused)
    found = examine(world, certs)
    assert isinstance(found.error, TimeoutError)
    assert found.step == "answer"
    assert found.authenticated
    assert not found.answer
    assert len(world.connections) == 1


def test_a_refusal_without_its_question_is_an_answer(certs: authority.Authority) -> None:
    def refuse(connection: Connection, queries: list[bytes]) -> None:
        connection.send([wire.respond(query, wire.HEADER, wire.REFUSED) for query in queries])

    found = examine(World(good(certs), refuse), certs)
    assert found.rcode == "REFUSED"
    assert checkup.options(found.answer) == {}


def test_no_step_takes_longer_than_its_patience(certs: authority.Authority) -> None:
    world = World(None)
    started = world.now
    found = examine(world, certs)
    assert isinstance(found.error, TimeoutError)
    assert found.step == "handshake"
    assert world.now - started == pytest.approx(CONNECT + 5.0)

    def drip(connection: Connection, queries: list[bytes]) -> None:
        connection.drip = b"\xff"

    world = World(good(certs), drip)
    started = world.now
    found = examine(world, certs)
    assert isinstance(found.error, TimeoutError)
    assert found.step == "answer"
    assert world.now - started < 5.2


def test_a_refused_connection_ends_it(certs: authority.Authority) -> None:
    world = World(good(certs))
    world.refuse = {AT}
    found = examine(world, certs)
    assert found.step == "connect"
    assert isinstance(found.error, ConnectionRefusedError)


def test_a_server_that_gives_no_tickets_is_found_out(certs: authority.Authority) -> None:
    context = good(certs)
    context.num_tickets = 0
    found = examine(World(context), certs)
    assert found.resumption == "no: each connection pays for a whole handshake (20 ms the second time)"


def test_a_second_connection_that_fails_is_said(certs: authority.Authority) -> None:
    def serve_and_refuse(connection: Connection, queries: list[bytes]) -> None:
        resolver.serve(connection, queries)
        world.refuse = {AT}

    world = World(good(certs), serve_and_refuse)
    found = examine(world, certs)
    assert found.resumption == "unknown: a second connection failed, connection refused"


def test_the_ticket_of_another_address_is_not_used_and_none_is_left(certs: authority.Authority) -> None:
    one, world = session(certs), World(good(certs))
    for _ in range(2):
        found = checkup.examine(AT, one, world.tools)
        assert found.about["resumed"] == "new session"
        assert one.ticket is None


@pytest.mark.parametrize("kind", ["expired", "wrong_name", "self_signed", "other"])
def test_nothing_is_asked_of_a_server_that_is_not_authenticated(kind: str, certs: authority.Authority) -> None:
    world = World(context_for(getattr(certs, f"{kind}_cert"), getattr(certs, f"{kind}_key")))
    found = examine(world, certs)
    assert isinstance(found.error, CertificateError)
    assert found.step == "handshake"
    assert not found.authenticated
    with open(getattr(certs, f"{kind}_cert")) as file:
        leaf = ssl.PEM_cert_to_DER_cert(file.read())
    assert checkup.look(AT, authority.NAME, world.tools) == [leaf]
    assert world.queries == []
    looked = world.connections[-1]
    assert looked.closed
    assert looked.codec is not None
    assert not looked.codec.authenticated, "its handshake ended before the client's part of it"


def test_a_look_ends_in_time_and_in_words(certs: authority.Authority) -> None:
    world = World(None)
    with pytest.raises(TimeoutError):
        checkup.look(AT, authority.NAME, world.tools)
    assert world.connections[0].closed

    plain = World(good(certs))
    plain.connect = lambda address, timeout: Plain(plain)  # type: ignore[method-assign]
    for expected, said in (ProtocolError, b"220 mail.example ESMTP\r\n"), (ConnectionLost, b""):
        Plain.said = said
        tools = checkup.Tools(plain.tools.clock, plain.tools.wall, plain.tools.look_up, plain.connect)
        with pytest.raises(expected):
            checkup.look(AT, authority.NAME, tools)


class Plain(Connection):
    """Speaks no TLS."""

    said = b""

    def recv(self, size: int) -> bytes:
        return self.said


def test_a_server_that_wants_a_client_certificate_says_so(certs: authority.Authority) -> None:
    context = context_for(certs.server_cert, certs.server_key, client_ca=certs.ca_file)
    found = examine(World(context), certs)
    assert found.step == "answer"
    assert "certificate required" in checkup.words(found.error or OSError(), 5.0)


def test_options_are_read() -> None:
    query = b"\0\1\1\0\0\1\0\0\0\0\0\0\0\0\2\0\1"
    found = checkup.options(answer(query, opt=resolver.options((edns.PADDING, bytes(9)), (edns.KEEPALIVE, b"\0\x64"))))
    assert found == {edns.PADDING: bytes(9), edns.KEEPALIVE: b"\0\x64"}
    broken = answer(query, opt=resolver.options((edns.PADDING, bytes(9)))[:-4])
    with pytest.raises(wire.Malformed):
        checkup.options(broken)


def test_errors_are_put_in_words() -> None:
    assert checkup.words(TimeoutError("timed out"), 5.0) == "no reply within 5 s"
    assert checkup.words(ConnectionRefusedError(111, "Connection refused"), 5.0) == "connection refused"
    assert checkup.words(TimeoutError(110, "Connection timed out"), 5.0) == "connection timed out", "the kernel's own"
    assert checkup.words(OSError(), 5.0) == "oserror"
    assert checkup.words(ConnectionLost("gone"), 5.0) == "gone"
    assert (checkup.ms(0.0012), checkup.ms(0.1234)) == ("1.2 ms", "123 ms")
