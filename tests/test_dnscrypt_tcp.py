"""dnscrypt_tcp: servers that keep the connection, that do not, and one that repeats itself."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _udp2tls import box, dnscrypt_tcp
from _udp2tls.codec import CertificateError, ConnectionLost, ProtocolError
from _udp2tls.dnscrypt_tcp import Tcp
from _udp2tls.provider import Habit, Provider
from tests.provider import NOW, Resolver
from tests.test_dnscrypt import PREFIX, Server, answer_to, each_system, query, session


def frame(packet: bytes) -> bytes:
    return len(packet).to_bytes(2, "big") + packet


def unframe(data: bytes) -> list[bytes]:
    packets = []
    while data:
        end = 2 + int.from_bytes(data[:2], "big")
        packets.append(data[2:end])
        data = data[end:]
    return packets


def asked(codec: Tcp) -> list[bytes]:
    return unframe(b"".join(codec.outgoing()))


def replies(codec: Tcp, server: Server, skip: int = 0) -> list[bytes]:
    """Return the frames with which ``server`` answers what the codec has to say."""
    return [frame(server.answer(packet[skip:]) or b"") for packet in asked(codec)]


def opened(server: Server, provider: Provider | None = None, now: float = 0.0) -> Tcp:
    codec = Tcp(provider or session(server), now)
    codec.receive(replies(codec, server), now)
    return codec


def known(server: Server) -> Provider:
    """Return a session that has its certificate."""
    provider = session(server)
    opened(server, provider)
    return provider


@pytest.fixture
def server() -> Server:
    return Server(strict=False)


def ask(codec: Tcp, server: Server, *numbers: int, now: float) -> list[bytes]:
    codec.send([query(number) for number in numbers], now)
    return codec.receive(replies(codec, server), now)


# -- the certificate ----------------------------------------------------------------------------------


@each_system
def test_a_certificate_then_queries(es_version: int) -> None:
    server = Server(Resolver(es_version), strict=False)
    codec = Tcp(session(server), 0.0)
    assert (codec.room, codec.closing) == (0, False)
    with pytest.raises(RuntimeError, match="before a certificate"):
        codec.send([query(1)], 0.0)
    assert codec.receive(replies(codec, server), 0.1) == []
    assert codec.room == 1
    for number in range(5):
        assert ask(codec, server, number, now=0.2) == [answer_to(query(number))]
    assert len(server.asked) == 1


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_chunk_borders_mean_nothing(server: Server, size: int) -> None:
    codec = Tcp(session(server), 0.0)
    for number in range(3):
        data, got = b"".join(replies(codec, server)), []
        for at in range(0, len(data), size):
            got += codec.receive([data[at : at + size]], 0.1)
        assert got == ([answer_to(query(number - 1))] if number else [])
        codec.send([query(number)], 0.1)
    data = b"".join(replies(codec, server))
    for at in range(1, len(data)):
        other = opened(server)
        other.send([query(9)], 0.1)
        whole = b"".join(replies(other, server))
        assert other.receive([whole[:at]], 0.1) == []
        assert other.receive([whole[at:]], 0.1) == [answer_to(query(9))]


def test_a_server_that_gives_no_certificate_over_tcp_says_so_with_an_empty_frame(server: Server) -> None:
    codec = Tcp(provider := session(server), 0.0)
    with pytest.raises(CertificateError, match="must be asked over UDP"):
        codec.receive([b"\0\0"], 0.1)
    assert provider.wants == "udp"


def test_an_empty_frame_is_not_fatal_where_there_is_a_certificate(server: Server) -> None:
    codec = opened(server)
    codec.send([query(1)], 0.2)
    (answer,) = replies(codec, server)
    assert codec.receive([b"\0\0", answer, b"\0\0"], 0.3) == [answer_to(query(1))]
    assert codec.room == 1
    later = Tcp(codec._provider, 3600.0)
    assert len(asked(later)) == 1  # time for another certificate
    assert later.receive([b"\0\0"], 3600.1) == []
    assert later.room == 1
    assert later.deadline > 3605.0


def test_a_bad_certificate_is_the_end(server: Server) -> None:
    codec = Tcp(session(Server()), 0.0)
    server.rotate(Resolver(), ends=NOW - 5, begins=NOW - 90)
    with pytest.raises(CertificateError, match="expired"):
        codec.receive(replies(codec, server), 0.1)


def test_no_certificate_in_time_and_none_before_the_end(server: Server) -> None:
    codec = Tcp(session(server), 0.0)
    assert codec.deadline == 3.0
    with pytest.raises(ConnectionLost, match="no answer to the query for a certificate"):
        codec.receive((), 3.0)
    with pytest.raises(ConnectionLost, match="query for a certificate"):
        Tcp(session(server), 0.0).eof(0.1)


def test_it_is_renewed_between_queries(server: Server) -> None:
    codec = opened(server)
    for _ in range(8):
        assert codec.deadline < math.inf
        when = codec.deadline
        codec.receive((), when)
        codec.receive(replies(codec, server), when)
        assert codec.room == 1
    assert len(server.asked) == 9


def test_closes_without_an_answer_lead_to_another_certificate(server: Server) -> None:
    provider = known(server)
    server.rotate(Resolver(2, b"s" * 32, b"magic-02"))
    for number in range(3):
        codec = Tcp(provider, 20.0)
        codec.send([query(number)], 20.0)
        codec.outgoing()
        with pytest.raises(ConnectionLost, match="without an answer to the query"):
            codec.eof(20.1)
    codec = Tcp(provider, 20.2)
    assert codec.room == 0
    codec.receive(replies(codec, server), 20.3)
    assert ask(codec, server, 5, now=20.4) == [answer_to(query(5))]


# -- what the server allows ---------------------------------------------------------------------------


def test_it_begins_with_one_at_a_time_and_takes_more_after_proof(server: Server) -> None:
    codec = opened(server)
    widths, number = [], 0
    for _ in range(80):
        batch = range(number, number + codec.room)
        number += len(batch)
        assert len(ask(codec, server, *batch, now=1.0)) == len(batch)
        widths.append(codec.width)
    assert widths[0] == 1
    assert widths[-1] == 64
    assert Tcp(codec._provider, 2.0).room == 64


def wide(server: Server, now: float = 1.0) -> Tcp:
    """Return a connection on which eight queries may be asked at once."""
    codec = opened(server)
    number = 1000
    while codec.room < 8:
        number += codec.room
        ask(codec, server, *range(number, number + codec.room), now=now)
    return codec


def test_answers_come_in_any_order(server: Server) -> None:
    codec = wide(server)
    codec.send([query(number) for number in range(8)], 2.0)
    assert codec.room == 0
    got = codec.receive(replies(codec, server)[::-1], 2.1)
    assert got == [answer_to(query(number)) for number in range(7, -1, -1)]


def test_a_repeated_answer_demotes_for_half_an_hour(server: Server) -> None:
    codec = wide(server)
    codec.send([query(number) for number in range(8)], 2.0)
    answers = replies(codec, server)
    assert len(codec.receive([answers[0], answers[1], answers[0], answers[0]], 2.1)) == 2
    assert (codec.width, codec.capacity, codec.room, codec.closing) == (1, 0, 0, True)
    assert codec.counts["repeats"] == 2
    assert codec.receive([answers[5]], 2.2) == [answer_to(query(5))]
    assert codec.eof(2.3) == []
    again = Tcp(codec._provider, 3.0)
    for number in range(40):
        ask(again, server, number, now=3.0)
    assert again.width == 1
    later = codec._provider.habit
    later.refresh(3.0 + 1800)
    assert Tcp(codec._provider, 4.0).habit._widest == 64


def test_a_server_that_closes_after_one_answer_gets_one_query_a_connection(server: Server) -> None:
    provider = session(server)
    first = opened(server, provider)
    first.send([query(1)], 0.2)
    first.outgoing()
    assert first.eof(0.3) == []  # it had answered with the certificate
    assert (first.width, first.capacity, first.closing) == (1, 1, True)
    for number in range(3):
        codec = Tcp(provider, 1.0)
        assert codec.room == 1
        codec.send([query(number)], 1.0)
        assert (codec.room, codec.closing) == (0, False)
        assert codec.receive(replies(codec, server), 1.1) == [answer_to(query(number))]
        assert (codec.room, codec.closing) == (0, True)
        assert codec.eof(1.1) == []
    provider.refresh_at = 20.0
    stale = Tcp(provider, 20.0)  # a connection for nothing but the certificate
    assert stale.room == 0
    assert not stale.closing
    stale.receive(replies(stale, server), 20.1)
    assert (stale.room, stale.closing) == (0, True)
    assert Tcp(provider, 20.2).room == 1


def test_a_close_right_after_the_only_answer_is_a_habit_and_a_late_one_is_not(server: Server) -> None:
    for after, one_shot in ((0.1, True), (2.0, False)):
        provider = known(server)
        codec = Tcp(provider, 1.0)
        ask(codec, server, 1, now=1.0)
        assert codec.eof(1.0 + after) == []
        assert provider.habit.one_shot is one_shot


def test_connections_lost_with_several_queries_on_them_make_it_serial(server: Server) -> None:
    codec = wide(server)
    habit = codec.habit
    for _ in range(3):
        habit.width = 8
        one = Tcp(codec._provider, 2.0)
        ask(one, server, 1, now=2.0)
        ask(one, server, 2, now=2.0)
        one.send([query(3), query(4)], 2.0)
        assert one.eof(2.1) == []
        assert habit.width == 1
    assert habit._widest == 1


def test_an_end_inside_a_frame_is_a_loss(server: Server) -> None:
    codec = opened(server)
    codec.send([query(1)], 0.2)
    (answer,) = replies(codec, server)
    codec.receive([answer[:-1]], 0.3)
    with pytest.raises(ConnectionLost, match="bytes into a frame"):
        codec.eof(0.4)


def test_a_query_without_an_answer_makes_room_for_another_and_may_come_late(server: Server) -> None:
    codec = opened(server)
    codec.send([query(1)], 1.0)
    (late,) = replies(codec, server)
    assert codec.room == 0
    assert codec.deadline == 6.0
    codec.receive((), 6.0)
    assert codec.room == 1
    assert codec.receive([late], 6.1) == []
    assert codec.width == 1
    assert codec.room == 1
    assert codec.counts["repeats"] == 0


# -- hostile input ------------------------------------------------------------------------------------


def test_what_cannot_be_opened_is_the_end(server: Server) -> None:
    for change in (lambda whole: whole[:-1] + bytes((whole[-1] ^ 1,)), lambda whole: frame(b"what is this")):
        codec = opened(server)
        codec.send([query(1)], 0.2)
        (answer,) = replies(codec, server)
        with pytest.raises(ProtocolError):
            codec.receive([change(answer)], 0.3)
    codec = opened(server)
    with pytest.raises(ProtocolError, match="too short"):
        codec.receive([frame(box.RESOLVER_MAGIC + b"no")], 0.3)


@settings(max_examples=150)
@given(st.lists(st.binary(max_size=100)), st.booleans())
def test_hostile_streams_raise_nothing_but_codec_errors(chunks: list[bytes], ready: bool) -> None:
    server = Server(strict=False)
    codec = opened(server) if ready else Tcp(session(server), 0.0)
    try:
        assert codec.receive(chunks, 0.1) == []
    except ProtocolError:
        pass
    assert len(codec._tail) <= 65537


# -- sizes --------------------------------------------------------------------------------------------


def test_padding_is_one_to_256_bytes_and_frames_fit(server: Server) -> None:
    codec = opened(server)
    for number in range(100):
        ask(codec, server, number, now=0.2)
    assert set(server.padded) == {64, 128, 192, 256}
    for size in range(65380, 65536):
        codec.send([query(1) + bytes(size - len(query(1)))], 0.3)
    assert all(len(chunk) <= 65537 for chunk in codec.outgoing())
    assert codec.counts["too_large"]


def test_through_a_relay_every_frame_has_the_prefix_and_room_grows(server: Server) -> None:
    server.strict = True
    provider, habit = session(server), Habit()
    habit.one_shot = True
    codec = Tcp(provider, 0.0, prefix=PREFIX, habit=habit)
    (packet,) = asked(codec)
    assert packet.startswith(PREFIX)
    codec.receive([frame(server.answer(packet[28:]) or b"")], 0.1)
    assert (codec.room, codec.closing) == (0, True)
    sizes = []
    for _ in range(5):
        codec = Tcp(provider, 1.0, prefix=PREFIX, habit=habit)
        codec.overflow = []
        codec.send([query(1, 1900)], 1.0)
        (packet,) = asked(codec)
        sizes.append(len(packet) - 28 - 68)
        got = codec.receive([frame(server.answer(packet[28:]) or b"")], 1.1)
        if got:
            assert got == [answer_to(query(1, 1900))]
            break
        assert [message for message, _ in codec.overflow] == [query(1, 1900)]
    assert sizes == [768, 1536, 3072]
    assert provider.habit.one_shot is False


def test_without_a_taker_a_short_answer_is_returned(server: Server) -> None:
    server.strict = True
    provider = known(server)
    codec = Tcp(provider, 1.0, prefix=PREFIX)
    codec.send([query(1, 1900)], 1.0)
    got = codec.receive(replies(codec, server, 28), 1.1)
    assert got == [answer_to(query(1, 1900), truncated=True)]


def test_its_constants_fit_together() -> None:
    assert dnscrypt_tcp.AT_ONCE < 2.0 < dnscrypt_tcp.LIFETIME
    opened(Server()).close()
