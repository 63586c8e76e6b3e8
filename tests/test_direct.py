"""direct: a server is asked for its certificate itself, late, where that is allowed, and for nothing else ever."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _udp2tls import box, certificate, relay, resolver, upstream
from _udp2tls.codec import CertificateError, CodecError, ConnectionLost, ProtocolError
from _udp2tls.config import Config, Endpoint, UpstreamSpec, parse_upstream
from _udp2tls.dialer import LAST_RESORT
from _udp2tls.direct import Direct, Fetch
from _udp2tls.provider import Provider
from tests import provider as peers
from tests.fakes import CLIENT, Clock, PlainUpstream, Selector, Tcp, Udp, answer, query
from udp2tls import Forwarder

SERVER, FIRST, SECOND = Endpoint("192.0.2.1", 8443), Endpoint("198.51.100.1", 443), Endpoint("203.0.113.1", 443)
OTHER = Endpoint("192.0.2.77", 853)
PREFIX = relay.prefix(*SERVER)
SIGNER = peers.Provider()


def spec(way: Endpoint | None = FIRST, *, direct: bool = True) -> UpstreamSpec:
    return UpstreamSpec(*SERVER, peers.NAME, key=SIGNER.public, relay=way, direct_certificate=direct)


def assert_certificate_query(packet: bytes) -> None:
    assert certificate.query(peers.NAME, packet[:2], size=len(packet)) == packet


class Sock(Tcp):
    """The client's end of a connection, over UDP or TCP; ``packets`` are those it has sent."""

    def __init__(self, world: World, address: Endpoint, *, datagrams: bool) -> None:
        super().__init__()
        self.world, self.address, self.datagrams = world, address, datagrams
        self.packets: list[bytes] = []

    def send(self, data: bytes) -> int:
        taken = super().send(data)
        for packet in self.frames() if not self.datagrams else [data]:
            self.packets.append(packet)
            self.world.come(self, packet)
        return taken

    def say(self, packet: bytes) -> None:
        if self.datagrams:
            self.inbox.append(packet)
        else:
            self.feed(packet)


class World:
    """A forwarder, a server, and relays that pass on what they should; ``bare``: all but certificates."""

    def __init__(self, *specs: UpstreamSpec, strategy: str = "ordered") -> None:
        self.clock, self.selector = Clock(), Selector()
        self.local = "192.0.2.200"
        self.server = peers.Resolver()
        self.ends = peers.NOW + 3600
        self.bare = {FIRST, SECOND}
        self.hangs_up: set[Endpoint] = set()  # over TCP, when asked for a certificate
        self.dead: set[Endpoint] = set()  # says nothing
        self.refuses: set[Endpoint] = set()
        self.refuses_udp: set[Endpoint] = set()
        self.only_udp: set[Endpoint] = set()
        self.only_tcp: set[Endpoint] = set()
        self.sealed: list[tuple[Endpoint, bytes]] = []  # queries that the server opened, and who brought them
        self.others = 0  # queries that another server answered
        self.socks: list[Sock] = []
        config = Config(upstreams=specs, listen=(), strategy=strategy)
        built = upstream.build(config, self.wall)
        self.forwarder = Forwarder(
            config, clock=self.clock, sleep=lambda seconds: None, selector=self.selector, rng=random.Random(1),
            open_stream=self._open, wall=self.wall, route=lambda address: self.local,
            upstreams=[one if one.spec.key else PlainUpstream(one.spec) for one in built],
        )  # fmt: skip
        for sock in list(self.selector.keys):
            self.selector.unregister(sock)
            sock.close()
        self.forwarder.wake_socket.close()
        self.udp = Udp()
        self.forwarder.clients.listen_udp(self.udp, False)
        self.asked = 0

    def wall(self) -> float:
        return peers.NOW + self.clock.now - 1000.0

    def _open(self, address: Endpoint, *, datagrams: bool = False) -> Sock:
        if address in self.refuses or (datagrams and address in self.refuses_udp):
            raise ConnectionRefusedError(111, "Connection refused")
        self.socks.append(Sock(self, address, datagrams=datagrams))
        return self.socks[-1]

    def come(self, sock: Sock, packet: bytes) -> None:
        deaf = self.only_tcp if sock.datagrams else self.only_udp
        if sock.address in self.dead | deaf:
            return
        if sock.address == OTHER:
            self.others += 1
            sock.say(answer(packet))
            return
        if sock.address != SERVER:
            assert packet.startswith(PREFIX)
            packet = packet.removeprefix(PREFIX)
        if packet.startswith(self.server.magic):
            plain, seal = self.server.open(packet)
            self.sealed.append((sock.address, box.unpad(plain)))
            sock.say(seal.answer(answer(self.sealed[-1][1])))
        elif sock.address in self.hangs_up and not sock.datagrams:
            sock.ended = True
        elif sock.address not in self.bare:
            sock.say(peers.reply(packet, self.server.certificate(SIGNER, ends=self.ends)))

    def later(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self.clock.now < end:
            for _ in range(4):
                self.forwarder.turn()
                self.clock.now += 0.001
            self.clock.now = min(end, self.clock.now + min(0.05, max(0.001, self.selector.timeout)))

    def ask(self, seconds: float = 0.0) -> int:
        """Ask a new question; return how many answers come within so many seconds."""
        self.asked += 1
        self.udp.inbox.append((query(f"n{self.asked}.example", id=self.asked), CLIENT))
        self.later(seconds)
        sent, self.udp.sent = self.udp.sent, []
        return sum(one[3] & 15 == 0 for one, _ in sent)

    def direct(self) -> list[bytes]:
        """Return what went to the server itself; certificate queries, or the test fails."""
        packets = [packet for sock in self.socks for packet in sock.packets if sock.address == SERVER]
        for one in packets:
            assert_certificate_query(one)
        return packets

    @property
    def connections(self) -> int:
        return sum(sock.address == SERVER for sock in self.socks)


def test_by_default_nothing_goes_to_the_server_whatever_fails() -> None:
    world = World(spec(direct=False), spec(SECOND, direct=False))
    for _ in range(5):
        assert world.ask(5.0) == 0
    world.bare.clear()
    world.later(5.0)
    assert world.ask(3.0) == 1
    assert world.connections == 0


def test_a_relay_without_certificates_carries_queries_after_the_server_was_asked_for_one() -> None:
    world = World(spec())
    assert world.ask(LAST_RESORT - 0.1) == 0
    assert world.connections == 0, "the relay had not had its time"
    assert world.ask(0.3) == 2
    assert len(world.direct()) == 1
    assert {way for way, _ in world.sealed} == {FIRST}
    for _ in range(20):
        assert world.ask(1.0) == 1
    assert len(world.direct()) == 1, "there is a certificate"
    assert all(sock.closed for sock in world.socks if sock.address == SERVER)


def test_while_a_relay_brings_certificates_nothing_goes_to_the_server() -> None:
    world = World(spec(), spec(SECOND))
    world.bare.discard(SECOND)
    for _ in range(10):
        assert world.ask(3.0) == 1
    world.dead.add(SECOND)
    world.bare.discard(FIRST)
    for _ in range(5):
        world.ask(3.0)
    assert world.ask(3.0) == 1
    assert world.connections == 0


def test_a_certificate_is_for_all_relays_of_the_server() -> None:
    world = World(spec(), spec(SECOND))
    world.dead.add(FIRST)
    assert world.ask(4.0) == 1
    assert {way for way, _ in world.sealed} == {SECOND}
    assert len(world.direct()) == 1


def test_where_udp_brings_nothing_the_server_is_asked_over_tcp() -> None:
    world = World(spec())
    world.only_tcp.update((SERVER, FIRST))
    assert world.ask(3.0) == 1
    assert world.direct()
    assert {way for way, _ in world.sealed} == {FIRST}


def test_a_relay_that_hangs_up_on_certificate_queries_is_one_without_certificates() -> None:
    world = World(spec())
    world.hangs_up.add(FIRST)
    world.refuses_udp.add(FIRST)
    assert world.ask(3.0) == 1
    assert len(world.direct()) == 1


def test_a_relay_that_refuses_connections_is_no_reason() -> None:
    world = World(spec(), spec(SECOND))
    world.refuses.update((FIRST, SECOND))
    for _ in range(5):
        assert world.ask(5.0) == 0
    assert world.connections == 0
    world.refuses.clear()
    world.bare.clear()
    assert world.ask(3.0) == 1
    assert world.connections == 0


def test_a_server_that_gives_no_certificate_itself_gets_nothing_more() -> None:
    world = World(spec())
    world.bare.add(SERVER)
    for _ in range(5):
        assert world.ask(4.5) == 0
    assert 5 < len(world.direct()) < 100
    assert world.sealed == []


def test_a_certificate_that_is_over_is_replaced_on_the_connection_that_is_open() -> None:
    world = World(spec())
    world.bare.clear()
    world.ends = peers.NOW + 60
    assert world.ask(1.0) == 1
    world.bare.add(FIRST)
    world.ends = peers.NOW + 3600
    for _ in range(59):
        assert world.ask(0.9) == 1
    assert world.connections == 0
    assert sum(world.ask(0.9) for _ in range(15)) == 15
    assert len(world.direct()) == 1
    assert {way for way, _ in world.sealed} == {FIRST}


@pytest.mark.parametrize("strategy", ["ordered", "rotate", "fastest"])
def test_it_is_no_upstream_and_serves_its_server_while_another_answers(strategy: str) -> None:
    world = World(spec(), parse_upstream(f"tls://{OTHER.host}"), strategy=strategy)
    delivery = world.forwarder.delivery
    assert world.ask(1.0) == 1
    assert world.others == 1
    assert world.connections == 0
    for _ in range(40):
        assert world.ask(0.5) == 1
        assert not any(isinstance(link.upstream, Direct) for link in delivery.links)
    assert len(world.direct()) == 1
    assert len(world.sealed) > 20 if strategy == "ordered" else world.sealed
    assert len(delivery.upstreams) == 3
    assert not any("certificate alone" in one for one in world.forwarder.statistics()["upstreams"])


def test_a_server_that_nobody_needs_now_is_not_asked() -> None:
    world = World(parse_upstream(f"tls://{OTHER.host}"), spec())
    for _ in range(40):
        assert world.ask(0.5) == 1
    assert world.connections == 0
    world.refuses.add(OTHER)
    for sock in world.socks:
        sock.error = ConnectionResetError(104, "injected")
    world.ask(3.0)
    assert world.ask(1.0) == 1
    assert len(world.direct()) == 1


def test_when_a_better_upstream_is_back_a_server_that_stood_in_for_it_is_asked_no_more() -> None:
    world = World(parse_upstream(f"tls://{OTHER.host}"), spec())
    world.refuses.add(OTHER)
    world.hangs_up.add(FIRST)
    world.bare.add(SERVER)
    world.ask(6.0)
    assert world.connections
    world.refuses.clear()
    world.ask(10.0)
    before = world.connections
    for _ in range(60):
        assert world.ask(0.5) == 1
    assert world.connections == before


def test_a_server_that_gives_no_certificate_is_asked_ever_more_rarely_while_another_answers() -> None:
    world = World(spec(), parse_upstream(f"tls://{OTHER.host}"))
    world.bare.add(SERVER)
    assert world.ask(1.0) == 1
    for _ in range(240):
        assert world.ask(0.5) == 1
    assert 2 < world.connections < 40
    assert world.direct()


@pytest.mark.parametrize("others", [0, 1])
def test_when_the_relay_brings_it_after_all_the_server_is_left_alone(others: int) -> None:
    world = World(spec(), *[parse_upstream(f"tls://{OTHER.host}")] * others)
    world.bare.add(SERVER)
    assert world.ask(LAST_RESORT + 0.2) == others
    assert world.connections
    world.bare.discard(FIRST)
    assert world.ask(2.0) == 2 - others
    before = len(world.direct())
    assert all(sock.closed for sock in world.socks if sock.address == SERVER)
    assert world.ask(20.0) == 1
    assert len(world.direct()) == before


def test_a_change_of_network_ends_it_and_blames_nobody() -> None:
    world = World(spec())
    world.bare.add(SERVER)
    world.ask(LAST_RESORT + 0.5)
    (fetcher, _) = world.forwarder.delivery.upstreams[0].fetchers
    fetcher.path_of(SERVER).fail(world.clock.now, random.Random(1))
    before = len(world.socks)
    world.forwarder.resume("a test")
    world.later(0.9)
    assert fetcher.path_of(SERVER).failures == 0
    assert all(sock.closed for sock in world.socks[:before])
    assert {sock.address for sock in world.socks[before:]} == {FIRST}, "the relay is first again"


def fetch(*, stream: bool = False, give: Callable[[bytes, float], None] = lambda packet, now: None) -> Fetch:
    asker = Provider(peers.NAME, SIGNER.public, peers.bytes_of(1), lambda: float(peers.NOW), ephemeral=True)
    return Fetch(asker, give, lambda now: False, 1.0, stream=stream)


@pytest.mark.parametrize("stream", [False, True])
def test_there_is_no_way_to_send_a_query(stream: bool) -> None:
    codec: Any = fetch(stream=stream)
    with pytest.raises(AttributeError):
        codec.room = 1
    with pytest.raises(AttributeError):
        del codec.room
    with pytest.raises(RuntimeError, match="certificate alone"):
        codec.send([query()], 1.0)
    assert codec.room == 0
    (sent,) = codec.outgoing()
    assert_certificate_query(sent[2 * stream :])


CERTIFICATE = peers.Resolver().certificate(SIGNER)


SHOWN = {"good": [CERTIFICATE], "bad": [CERTIFICATE[:-1] + b"x"], "none": [], "half": [CERTIFICATE[:50]]}
EVENTS = st.one_of(st.binary(max_size=80), st.sampled_from(sorted(SHOWN)), st.floats(0, 2))


@settings(max_examples=200)
@given(st.booleans(), st.lists(EVENTS, max_size=9))
def test_whatever_comes_it_sends_certificate_queries_and_room_stays_0(stream: bool, events: list[Any]) -> None:
    """A number lets time pass, a name is the answer to the last query."""
    codec = fetch(stream=stream)
    now, asked = 1.0, b""
    for event in events:
        for sent in codec.outgoing():
            asked = sent[2:] if stream else sent
            assert_certificate_query(asked)
        chunks = []
        if isinstance(event, float):
            now += event
        else:
            packet = event if isinstance(event, bytes) else peers.reply(asked, *SHOWN[event])
            chunks = [len(packet).to_bytes(2, "big") + packet if stream else packet]
        try:
            assert codec.receive(chunks, now) == []
        except CodecError:
            break
        assert codec.room == 0
        assert codec.closing or event != "good" or not stream


def test_over_tcp_what_is_no_certificate_ends_it() -> None:
    for data, error in ((b"\0\1x", ProtocolError), (None, CertificateError)):
        codec = fetch(stream=True)
        (asked,) = codec.outgoing()
        refusal = peers.reply(asked[2:], flags=b"\x81\3")
        with pytest.raises(error):
            codec.receive([data or len(refusal).to_bytes(2, "big") + refusal], 1.0)
    codec = fetch(stream=True)
    with pytest.raises(ConnectionLost, match="without an answer"):
        codec.eof(1.0)
    with pytest.raises(ConnectionLost, match="no answer"):
        codec.receive([], codec.deadline)


@pytest.mark.parametrize("stream", [False, True])
def test_a_good_answer_is_given_on_and_that_is_all(stream: bool) -> None:
    given_: list[bytes] = []
    codec = fetch(stream=stream, give=lambda packet, now: given_.append(packet))
    (asked,) = codec.outgoing()
    reply = peers.reply(asked[2 * stream :], CERTIFICATE)
    codec.receive([len(reply).to_bytes(2, "big") + reply if stream else reply], 1.1)
    assert given_ == [reply]
    assert codec.closing
    assert codec.eof(1.2) == []
    assert codec.receive([], 9.0) == []
    assert codec.outgoing() == []


def test_it_is_shared_by_the_ways_through_relays_to_one_server_and_knows_none_of_them() -> None:
    other = replace(spec(), host="192.0.2.9")
    plain = spec(None)
    made = upstream.build(Config((spec(), spec(SECOND), other, plain, spec(direct=False))), lambda: float(peers.NOW))
    askers = {one: one.fetchers for one in made if one.fetchers}
    assert [str(one) for one in askers] == [str(spec()), str(other)]
    for first, both in askers.items():
        assert [one.datagrams for one in both] == [True, False]
        for one in both:
            assert one.addresses == [Endpoint(first.spec.host, 8443)]
            assert all(way.spec.relay and way.spec.host == first.spec.host for way in one.fetches_for)
            assert not one.ready(1.0)
            assert one.news() == ""
    assert [len(both[0].fetches_for) for both in askers.values()] == [4, 2]


def test_what_is_learned_of_the_server_is_not_taken_for_the_relays() -> None:
    made = upstream.build(Config((spec(), spec(SECOND))), lambda: float(peers.NOW))
    one, two = (way for way in made[:2] if isinstance(way, resolver.Resolver))
    fetcher = one.fetchers[0]
    codec = fetcher.codec(1.0)
    (asked,) = codec.outgoing()
    codec.receive([peers.reply(asked, CERTIFICATE)], 1.001)
    assert one.provider.ready(1.1)
    assert two.provider.ready(1.1)
    assert fetcher.ready(1.1)
    assert one.provider.pace.rtt == 0.0
    assert one.provider.keys is not None
    assert two.provider.keys is not None
    assert one.provider.keys.boxes is not two.provider.keys.boxes, "nobody shall know the two for one user"
    assert "the server was asked itself" in fetcher.news()
    assert fetcher.news() == one.news() == two.news() == ""
