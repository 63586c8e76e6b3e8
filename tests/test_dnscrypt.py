"""dnscrypt: a server in memory, a clock that is only counted, a network that loses and mixes up."""

from __future__ import annotations

import heapq
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _udp2tls import box, dnscrypt, exchange, relay, wire
from _udp2tls.dnscrypt import Udp
from _udp2tls.provider import Provider
from tests import provider as peers
from tests.provider import NAME, NOW, Resolver, bytes_of
from tests.test_box import SYSTEMS

ROOT = Path(__file__).parent.parent
PREFIX = relay.prefix("192.0.2.53", 443)
RTT = 0.02
each_system = pytest.mark.parametrize("es_version", SYSTEMS)
needs_xwing = pytest.mark.skipif(bool(box.why_not(box.XWING)), reason=box.why_not(box.XWING))


def query(number: int, size: int = 0) -> bytes:
    """Return a query whose answer has ``size`` bytes of records."""
    name = b"\x06n%05d\x05s%04d\0" % (number, size)
    return (number & 0xFFFF).to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0" + name + b"\0\x10\0\1"


def answer_to(message: bytes, *, truncated: bool = False) -> bytes:
    end = wire.question_end(message)
    size = 0 if truncated else int(message[21:25])
    flags = b"\x83\x80" if truncated else b"\x81\x80"
    return b"".join((message[:2], flags, b"\0\1\0\0\0\0\0\0", message[12:end], bytes(size)))


class Server:
    """A DNSCrypt server. ``strict``: no answer is longer than its query, as over UDP it should be."""

    def __init__(self, *resolvers: Resolver, strict: bool = True) -> None:
        self.provider = peers.Provider()
        self.resolvers = list(resolvers or (Resolver(),))
        self.certificates = [one.certificate(self.provider) for one in self.resolvers]
        self.strict = strict
        self.cut = False  # certificate answers have TC set and hold no certificate
        self.padded: list[int] = []  # the sizes of padded queries
        self.asked: list[bytes] = []  # certificate queries
        self._half = 0

    def rotate(self, resolver: Resolver, **options: int) -> None:
        """Forget all keys for one new one."""
        self.resolvers = [resolver]
        self.certificates = [resolver.certificate(self.provider, **options)]

    def answer(self, packet: bytes) -> bytes | None:
        if packet[2:4] == b"\1\0" and b"dnscrypt-cert" in packet[:40]:
            self.asked.append(packet)
            if self.cut:
                return peers.reply(packet, flags=b"\x83\0")
            return peers.reply(packet, *self.certificates)
        for resolver in self.resolvers:
            try:
                plain, sealed = resolver.open(packet)
            except (AssertionError, box.Refused):
                continue
            self.padded.append(len(plain))
            message = box.unpad(plain)
            self._half += 1
            half = self._half.to_bytes(12, "big")
            whole = sealed.answer(answer_to(message), half)
            if self.strict and len(whole) > len(packet):
                return sealed.answer(answer_to(message, truncated=True), half)
            return whole
        return None


def session(server: Server, **options: bool) -> Provider:
    return Provider(NAME, server.provider.public, bytes_of(1), lambda: NOW, **options)


def opened(server: Server, now: float = 0.0, **options: bytes) -> Udp:
    """Return a codec that has its certificate."""
    codec = Udp(session(server), now, **options)  # type: ignore[arg-type]
    (asked,) = codec.outgoing()
    reply = server.answer(asked.removeprefix(options.get("prefix", b"")))
    assert codec.receive([reply or b""], now + RTT) == []
    assert codec.room == dnscrypt.MOST_IN_FLIGHT
    return codec


class Network:
    """Carries datagrams between a codec and a server, each way in half a round trip."""

    def __init__(
        self, codec: Udp, server: Server, *, rtt: float = RTT, drop: Callable[[], bool] = lambda: False
    ) -> None:
        self.codec, self.server, self.rtt, self.drop = codec, server, rtt, drop
        self.now = 0.0
        self.jitter: Callable[[], float] = lambda: 0.0
        self.answered: dict[bytes, float] = {}
        self.sent: list[tuple[float, bytes]] = []
        self._events: list[tuple[float, int, bytes, str]] = []
        self._number = 0

    def _at(self, when: float, data: bytes, what: str) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, data, what))

    def _drain(self) -> None:
        for packet in self.codec.outgoing():
            self.sent.append((self.now, packet))
            if not self.drop():
                self._at(self.now + self.rtt / 2 + self.jitter(), packet, "there")

    def run(self, queries: Iterable[tuple[float, bytes]], until: float) -> dict[bytes, float]:
        """Return when each query was answered."""
        for when, message in queries:
            self._at(when, message, "query")
        self._drain()
        held: list[bytes] = []
        while True:
            event = self._events[0][0] if self._events else until
            self.now = max(self.now, min(event, self.codec.deadline, until))
            if self.now >= until:
                return self.answered
            if self._events and self._events[0][0] <= self.now:
                _, _, data, what = heapq.heappop(self._events)
                if what == "query":
                    held.append(data)
                elif what == "there":
                    if (reply := self.server.answer(data)) and not self.drop():
                        self._at(self.now + self.rtt / 2 + self.jitter(), reply, "back")
                else:
                    self._got(self.codec.receive([data], self.now))
            else:
                self._got(self.codec.receive((), self.now))
            if held and self.codec.room:
                self.codec.send(held, self.now)
                held = []
            self._drain()

    def _got(self, answers: list[bytes]) -> None:
        for answer in answers:
            message = answer[:2] + b"\1\0" + answer[4:12] + answer[12 : wire.question_end(answer)]
            assert message not in self.answered, "an answer came twice"
            self.answered[message] = self.now


# -- the certificate ----------------------------------------------------------------------------------


@each_system
def test_queries_go_out_once_there_is_a_certificate(es_version: int) -> None:
    server = Server(Resolver(es_version))
    codec = Udp(session(server), 0.0)
    assert (codec.room, codec.closing) == (0, False)
    with pytest.raises(RuntimeError, match="before a certificate"):
        codec.send([query(1)], 0.0)
    took = Network(codec, server).run([(0.1, query(number)) for number in range(50)], 1.0)
    assert sorted(took) == [query(number) for number in range(50)]
    news = codec._provider.news
    assert news is not None
    assert news.es_version == es_version


def test_a_certificate_query_is_repeated_until_it_is_answered() -> None:
    server, lost = Server(), [True] * 4
    codec = Udp(session(server), 0.0)
    net = Network(codec, server, drop=lambda: bool(lost and lost.pop()))
    assert query(1) in net.run([(0.0, query(1))], 4.0)
    assert codec._provider.wants == ""
    assert {len(packet) for _, packet in net.sent[:4]} == {46, 480, exchange.LARGEST}


def test_without_a_certificate_it_is_asked_for_in_all_sizes_and_tcp_wanted() -> None:
    server = Server()
    codec = Udp(session(server), 0.0)
    net = Network(codec, server, drop=lambda: True)
    net.run([], 8.0)
    assert len({len(packet) for _, packet in net.sent}) == 3
    assert 8 <= len(net.sent) <= 12
    assert codec._provider.wants == "tcp"
    assert codec.room == 0


def test_forged_certificates_are_passed_over_and_few_are_looked_at() -> None:
    server, liar = Server(), Server()
    liar.provider = peers.Provider(b"x" * 32)
    liar.rotate(Resolver())
    codec = Udp(session(server), 0.0)
    (asked,) = codec.outgoing()
    forged = liar.answer(asked) or b""
    assert codec.receive([forged] * 9, 0.01) == []
    assert codec.counts["refused_certificates"] == 4
    assert codec.room == 0
    assert "not signed by the provider's key" in codec._provider.reason
    codec.receive((), codec.deadline)
    (asked,) = codec.outgoing()
    codec.receive([server.answer(asked) or b""], 1.0)
    assert codec.room


def test_an_answer_cut_short_without_a_certificate_asks_with_more_room_and_wants_tcp() -> None:
    server = Server()
    server.cut = True
    codec = Udp(session(server), 0.0)
    (asked,) = codec.outgoing()
    codec.receive([server.answer(asked) or b""], 0.01)
    (larger,) = codec.outgoing()
    assert len(larger) == exchange.LARGEST
    assert codec._provider.wants == "tcp"


def test_a_certificate_in_the_session_opens_at_once_and_is_shared() -> None:
    server = Server()
    one = opened(server)
    other = Udp(one._provider, 1.0)
    assert other.outgoing() == []
    assert other.room
    late = session(server)
    first, second = Udp(late, 0.0), Udp(late, 0.0)
    (asked,) = first.outgoing()
    second.outgoing()
    first.receive([server.answer(asked) or b""], 0.01)
    assert not second.room
    second.receive((), second.deadline)
    assert second.room
    assert second.outgoing() == []


def test_it_is_renewed_in_time_and_queries_go_on() -> None:
    server = Server()
    net = Network(codec := Udp(session(server), 0.0), server)
    took = net.run([(when * 60.0 + 0.5, query(when)) for when in range(130)], 7900.0)
    assert len(took) == 130
    assert len(server.asked) == 3
    assert codec.counts["certificates"] == 1
    assert codec.counts["retransmitted"] == 0


def test_nothing_leaves_under_a_certificate_that_is_over() -> None:
    server = Server()
    server.rotate(Resolver(), ends=NOW + 100)
    net = Network(codec := Udp(session(server), 0.0), server)
    net.run([(1.0, query(1))], 2.0)
    net.drop = lambda: True
    net.run([(100.5, query(2))], 110.0)
    assert codec.room == 0
    late = [packet for when, packet in net.sent if when >= 101.1]
    assert late
    assert not any(packet.startswith(b"magic-01") for packet in late)


# -- rotation -----------------------------------------------------------------------------------------


@each_system
def test_a_server_that_lost_its_keys_is_asked_for_new_ones(es_version: int) -> None:
    server = Server(Resolver(es_version))
    net = Network(codec := Udp(session(server), 0.0), server)
    net.run([(number / 10 + 0.1, query(number)) for number in range(20)], 30.0)
    server.rotate(Resolver(es_version, b"s" * 32, b"magic-02", b"t" * 100))
    took = net.run([(30.0, query(100))], 34.0)
    assert took[query(100)] < 31.2
    assert codec.counts["suspicions"] == 1
    assert codec.counts["certificates"] == 2
    assert took[query(100)] <= net.now
    assert query(101) in net.run([(34.0, query(101))], 34.1)
    assert codec._provider.previous is None


@needs_xwing
def test_a_server_that_lost_its_tickets_alone_is_asked_without_one() -> None:
    resolver = Resolver(3)
    server = Server(resolver)
    net = Network(Udp(session(server), 0.0), server)
    net.run([(1.0, query(1)), (1.2, query(2))], 12.0)
    assert resolver.served[-1] == "resumed"
    resolver.ticket = b"another"
    assert net.run([(12.0, query(3))], 15.0)[query(3)] < 13.5


def test_the_old_certificate_is_kept_until_the_new_one_has_worked() -> None:
    """The certificate is published before the keys are in place."""
    server = Server()
    net = Network(codec := Udp(session(server), 0.0), server)
    net.run([(1.0, query(1))], 2.0)
    server.certificates = [Resolver(2, b"s" * 32, b"magic-02").certificate(server.provider, serial=2)]
    codec._provider.refresh_at = 2.0
    codec.deadline = 2.0
    took = net.run([(3.0, query(2))], 8.0)
    assert codec._provider.counts["fallbacks"] == 1
    assert took[query(2)] < 4.5


def test_early_queries_for_certificates_are_rare() -> None:
    server = Server()
    net = Network(Udp(session(server), 0.0), server)
    net.run([(0.1, query(0))], 1.0)
    net.server = Server(Resolver(2, b"z" * 32))
    net.server.certificates = server.certificates
    net.run([(1.0 + number / 10, query(number)) for number in range(1, 600)], 61.0)
    assert 3 <= len(net.server.asked) <= 8


# -- retransmission -----------------------------------------------------------------------------------


def test_the_identical_packet_goes_again_after_a_round_trip_then_ever_more_slowly() -> None:
    server = Server()
    net = Network(codec := Udp(session(server), 0.0), server)
    net.run([(number / 10, query(number)) for number in range(1, 40)], 10.0)
    wait = codec._provider.pace.wait
    assert RTT < wait <= 0.06
    net.sent.clear()
    net.drop = lambda: True
    net.run([(10.0, query(100))], 11.0)
    times = [round(when - 10.0, 6) for when, packet in net.sent if packet == net.sent[0][1]]
    assert times == [round(wait * n, 6) for n in (0, 1, 2, 3.5, 5.5, 8.5, 12.5, 18.5)]


def test_retransmissions_end_and_what_has_no_answer_is_forgotten() -> None:
    server = Server()
    net = Network(codec := opened(server), server, drop=lambda: True)
    net.now = 1.0
    net.run([(1.0, query(1))], 20.0)
    assert sum(packet.startswith(b"magic-01") for _, packet in net.sent) == len(dnscrypt.WAITS)
    assert (codec._waiting, codec._by_message, codec.counts["expired"]) == ({}, {}, 1)
    assert codec.room == dnscrypt.MOST_IN_FLIGHT


def test_twenty_percent_loss_costs_three_round_trips_and_200_ms_at_most() -> None:
    for rtt in (0.01, 0.05, 0.15):
        medians, slow = [], []
        for loss in (0.0, 0.2):
            chance = random.Random(7)
            server = Server()
            net = Network(Udp(session(server), 0.0), server, rtt=rtt, drop=lambda: chance.random() < loss)  # noqa: B023
            asked = {query(number): 5.0 + number / 50 for number in range(1500)}
            warm = [(number / 10, query(9000 + number)) for number in range(50)]
            took = net.run([*warm, *((when, message) for message, when in asked.items())], 45.0)
            times = sorted(took.get(message, when + 5.0) - when for message, when in asked.items())
            medians.append(statistics.median(times))
            slow.append(times[len(times) * 95 // 100])
            assert sum(message in took for message in asked) >= 1490
        assert slow[1] <= medians[0] + 3 * rtt + 0.2


def test_with_twenty_percent_loss_nobody_goes_without() -> None:
    chance = random.Random(3)
    server = Server()
    net = Network(Udp(session(server), 0.0), server, drop=lambda: chance.random() < 0.2)
    asked = {query(number): 1.0 + number / 200 for number in range(5000)}
    took = net.run([(when, message) for message, when in asked.items()], 30.0)
    assert max(took.get(message, 99.0) - when for message, when in asked.items()) < 3.9


def test_a_silent_server_gets_no_flood() -> None:
    server = Server()
    net = Network(codec := opened(server), server, drop=lambda: True)
    net.now = 1.0
    net.run([(1.0 + number / 1000, query(number)) for number in range(2000)], 8.0)
    assert len(net.sent) < 2 * 2000 + 600
    assert codec.counts["retransmitted"] > 500


def test_a_query_in_flight_that_is_sent_again_is_answered_once() -> None:
    server = Server()
    codec = opened(server)
    codec.send([query(1)], 1.0)
    codec.send([query(1), query(2)], 1.1)
    first, again, other = codec.outgoing()
    assert first == again != other
    replies = [server.answer(packet) or b"" for packet in (first, again, other)]
    assert codec.receive(replies, 1.2) == [answer_to(query(1)), answer_to(query(2))]
    assert codec.counts["strays"] == 1
    codec.send([query(1)], 1.3)
    (anew,) = codec.outgoing()
    assert anew != first
    assert codec.receive([server.answer(anew) or b""], 1.4) == [answer_to(query(1))]


def test_the_table_has_a_bound_and_the_oldest_goes_first() -> None:
    codec = opened(Server())
    count = dnscrypt.MOST_IN_FLIGHT
    codec.send([query(number) for number in range(count)], 1.0)
    assert codec.room == 0
    codec.send([query(count), query(count + 1)], 1.0)
    assert len(codec._waiting) == len(codec._by_message) == count
    assert query(1) not in codec._by_message
    assert query(2) in codec._by_message


def test_no_nonce_serves_two_packets() -> None:
    server = Server()
    chance = random.Random(3)
    net = Network(Udp(session(server), 0.0), server, drop=lambda: chance.random() < 0.3)
    net.run([(1.0 + number / 100, query(number, number % 5 * 250)) for number in range(500)], 12.0)
    packets = {packet for _, packet in net.sent if packet.startswith(b"magic-01")}
    assert len({packet[40:52] for packet in packets}) == len(packets)


# -- hostile input ------------------------------------------------------------------------------------


def test_reordered_and_doubled_answers_are_answered_once_each() -> None:
    server = Server()
    chance = random.Random(5)
    net = Network(codec := Udp(session(server), 0.0), server)
    net.jitter = lambda: chance.random() * 0.05
    took = net.run([(0.5 + number / 500, query(number)) for number in range(500)], 5.0)
    assert len(took) == 500
    codec.send([query(number) for number in range(600, 610)], 6.0)
    replies = [server.answer(packet) or b"" for packet in codec.outgoing()]
    got = codec.receive(replies[::-1] + replies, 6.01)
    assert got == [answer_to(query(number)) for number in range(609, 599, -1)]


@settings(max_examples=150)
@given(st.data())
def test_mutated_packets_never_raise_and_never_get_through(data: st.DataObject) -> None:
    server = Server()
    codec = opened(server)
    codec.send([query(1)], 1.0)
    whole = server.answer(codec.outgoing()[0]) or b""
    bad = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        bad[data.draw(st.integers(0, len(bad) - 1))] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(bad)))
    bad_packet = bytes(bad[:cut]) + data.draw(st.binary(max_size=20))
    if bad_packet != whole:
        assert codec.receive([bad_packet, data.draw(st.binary(max_size=90))], 1.01) == []
    assert codec.receive([whole], 1.02) == [answer_to(query(1))]


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=200) | st.binary(max_size=120).map(lambda data: box.RESOLVER_MAGIC + data)))
def test_anything_may_come_before_the_certificate_too(packets: list[bytes]) -> None:
    codec = Udp(session(Server()), 0.0)
    (asked,) = codec.outgoing()
    assert codec.receive([*packets, *(asked[:2] + b"\x81\0" + asked[4:] + one for one in packets)], 0.01) == []
    assert codec.room == 0


# -- padding ------------------------------------------------------------------------------------------


@each_system
def test_an_answer_cut_short_is_asked_for_with_more_room_and_that_is_remembered(es_version: int) -> None:
    server = Server(Resolver(es_version))
    net = Network(codec := Udp(session(server), 0.0), server)
    took = net.run([(1.0, query(1)), (1.2, query(2, 600))], 2.0)
    assert took[query(2, 600)] - 1.2 < 3.5 * RTT
    assert codec._provider.least(False, 2.0) > 448 or es_version == box.XWING
    net.run([(3.0, query(3, 600))], 4.0)
    assert net.answered[query(3, 600)] - 3.0 < 1.5 * RTT
    net.run([(700.0, query(4))], 1300.0)
    assert codec._provider.least(False, 1300.0) == 448


def test_what_no_datagram_holds_is_returned_cut_short_or_left_to_tcp() -> None:
    for takes in (False, True):
        server = Server()
        codec = opened(server)
        if takes:
            codec.overflow = []
        codec.send([query(1, 1900)], 1.0)
        got, packets = [], codec.outgoing()
        sizes = []
        while packets:
            sizes.append(len(packets[0]))
            got += codec.receive([server.answer(packets[0]) or b""], 1.1)
            packets = codec.outgoing()
        assert sizes == [516, 964, 1220]
        short = answer_to(query(1, 1900), truncated=True)
        assert got == ([] if takes else [short])
        assert codec.overflow == ([(query(1, 1900), short)] if takes else None)


def test_a_query_that_no_datagram_holds_is_answered_with_tc() -> None:
    codec = opened(Server())
    large = query(1) + bytes(1300)
    codec.send([large], 1.0)
    assert codec.outgoing() == []
    (short,) = codec.receive((), codec.deadline)
    assert short[2] & 2
    assert short[12:] == query(1)[12:]
    codec.overflow = []
    codec.send([large], 2.0)
    assert codec.overflow == [(large, short)]


# -- through a relay ----------------------------------------------------------------------------------


def test_through_a_relay_everything_has_the_prefix_and_room_for_the_answer() -> None:
    server = Server()
    codec = Udp(session(server), 0.0, prefix=PREFIX)
    (asked,) = codec.outgoing()
    assert asked.startswith(PREFIX)
    assert len(asked) == 28 + (480 if box.why_not(box.XWING) else exchange.LARGEST)
    codec.receive([server.answer(asked[28:]) or b""], 0.01)
    codec.send([query(1, 1900)], 1.0)
    sizes: list[int] = []
    got: list[bytes] = []
    packets = codec.outgoing()
    while packets:
        assert packets[0].startswith(PREFIX)
        sizes.append(len(packets[0]) - 28 - 68)
        got += codec.receive([server.answer(packets[0][28:]) or b""], 1.1)
        packets = codec.outgoing()
    assert sizes == [768, 1088, 2176]
    assert got == [answer_to(query(1, 1900))]
    codec.send([query(2)], 2.0)
    assert len(codec.outgoing()[0]) == 28 + 68 + 1088  # what may be fragmented is not remembered


def test_where_fragments_are_dropped_the_short_answer_comes_soon() -> None:
    server = Server()
    codec = Udp(session(server), 0.0, prefix=PREFIX)
    codec.receive([server.answer(codec.outgoing()[0][28:]) or b""], 0.01)
    codec.send([query(1, 1900)], 1.0)
    now = 1.0
    got: list[bytes] = []
    while not got and now < 6:
        for packet in codec.outgoing():
            if len(packet) <= 1252:
                got += codec.receive([server.answer(packet[28:]) or b""], now + 0.01)
        now = max(now + 0.01, codec.deadline)
        got += codec.receive((), now)
    assert got == [answer_to(query(1, 1900), truncated=True)]
    assert now < 3.0


# -- the rest -----------------------------------------------------------------------------------------


def test_key_pairs_for_each_query_are_answered_too() -> None:
    server = Server()
    net = Network(Udp(session(server, ephemeral=True), 0.0), server)
    assert len(net.run([(0.5, query(number)) for number in range(10)], 1.0)) == 10
    keys = {packet[8:40] for _, packet in net.sent if packet.startswith(b"magic-01")}
    assert len(keys) == 10


def test_it_has_no_end_of_its_own() -> None:
    codec = opened(Server())
    codec.close()
    assert codec.eof(1.0) == []
    assert codec.outgoing() == []


def test_nothing_is_imported_before_it_is_used() -> None:
    code = (
        "import _udp2tls.dnscrypt, _udp2tls.dnscrypt_tcp, sys;"
        "sys.exit(bool({'cryptography', 'nacl', 'dnslib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False).returncode == 0
