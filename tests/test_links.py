"""Links: queries out in batches, answers back to who asked, and what happens when a connection ends."""

from __future__ import annotations

import errno

import pytest

from _udp2tls.config import Endpoint
from _udp2tls.links import HIGH_WATER, PIECE
from _udp2tls.path import IDLE_LIMIT
from _udp2tls.upstream import CONNECT_LIMIT
from tests.fakes import CLIENT, Tcp, World, answer, query

KEEPALIVE = b"\0\0\x29\4\xd0\0\0\0\0\0\6\0\x0b\0\2"


def with_keepalive(asked: bytes, tenths: int) -> bytes:
    plain = answer(asked)
    return plain[:10] + b"\0\1" + plain[12:] + KEEPALIVE + tenths.to_bytes(2, "big")


def test_nothing_connects_before_a_query_and_one_connection_serves_all() -> None:
    world = World()
    world.later(100.0)
    assert world.opened == []
    for number in range(50):
        world.ask(query(id=number))
        world.turns(2)
    world.turns()
    assert len(world.opened) == 1
    assert len(world.link.frames()) == 50


def test_queries_in_flight_on_a_dying_connection_are_sent_again_at_once() -> None:
    world = World()
    world.ask(query(id=1))
    world.turns()
    world.link.feed(answer(world.link.frames()[0]))
    world.ask(query(id=2), query(id=3))
    world.turns()
    first = world.link
    assert len(first.frames()) == 2
    first.error = ConnectionResetError(errno.ECONNRESET, "injected")
    world.turns()
    assert first.closed
    again = sorted(world.link.frames())
    assert [frame[:2] for frame in again] == [b"\0\2", b"\0\3"]
    world.link.feed(*(answer(frame) for frame in again))
    world.turns()
    assert [reply[:2] for reply, _ in world.replies()] == [b"\0\1", b"\0\2", b"\0\3"]
    assert world.forwarder.statistics()["resent"] == 2


@pytest.mark.parametrize("partial", [b"", b"\0", b"\0\x40half"])
def test_a_connection_closed_by_the_upstream_is_replaced(partial: bytes) -> None:
    world = World()
    world.ask(query(id=1))
    world.turns()
    world.link.feed(answer(world.link.frames()[0]))
    world.ask(query(id=2))
    world.turns()
    if partial:
        world.link.inbox.append(partial)
    world.link.ended = True
    world.turns()
    assert len(world.opened) == 2
    world.link.feed(*(answer(frame) for frame in world.link.frames()))
    world.turns()
    assert len(world.replies()) == 2


def test_an_idle_close_is_not_replaced_before_the_next_query() -> None:
    world = World()
    world.ask(query(id=1))
    world.turns()
    world.link.feed(answer(world.link.frames()[0]))
    world.turns()
    world.link.ended = True
    world.later(5.0)
    assert len(world.opened) == 1
    assert world.forwarder.statistics()["failed_connections"] == 0
    world.ask(query(id=2))
    world.turns()
    assert len(world.opened) == 2


def test_what_a_closing_connection_owes_is_asked_again_on_an_open_one() -> None:
    """The other connection has nothing to do, and no event of its own to be woken by."""
    world = World()
    world.ask(query(id=1))
    world.turns()
    old = world.link
    old.frames()
    next(iter(world.forwarder.delivery.links)).codec.closing = True
    world.ask(query(id=2))
    world.turns()
    assert len(world.opened) == 2
    world.link.feed(answer(world.link.frames()[0]))
    world.later(0.5)
    assert old.closed
    world.link.feed(answer(world.link.frames()[0]))
    world.turns()
    assert sorted(reply[:2] for reply, _ in world.replies()) == [b"\0\1", b"\0\2"]


def test_the_last_words_of_a_peer_that_takes_no_more_are_read() -> None:
    world = World()
    world.ask(query(id=1))
    world.turns()
    first = world.link
    asked = first.frames()[0]
    stream = next(iter(world.forwarder.services[0].links._streams.values()))

    class Deaf(Tcp):
        def send(self, data: bytes) -> int:
            raise BrokenPipeError(errno.EPIPE, "injected")

    stream.sock = deaf = Deaf()
    world.selector.keys[deaf] = world.selector.keys.pop(first)
    world.ask(query(id=2))
    deaf.feed(answer(asked))
    world.turns(1)
    assert [reply[:2] for reply, _ in world.replies()] == [b"\0\1"]


def test_a_silent_connection_is_given_up_and_its_queries_answered_by_another() -> None:
    world = World()
    world.ask(query(id=1))
    world.turns()
    world.link.feed(answer(world.link.frames()[0]))
    world.turns()
    world.ask(query(id=2))
    world.later(0.3)
    assert len(world.opened) == 2
    world.link.feed(*(answer(frame) for frame in world.link.frames()))
    world.turns()
    assert [reply[3] & 15 for reply, _ in world.replies()] == [0, 0]


def test_an_idle_connection_is_closed_before_the_server_does() -> None:
    world = World()
    world.ask(query(id=1))
    world.turns()
    world.link.feed(answer(world.link.frames()[0]))
    world.later(IDLE_LIMIT + 0.1)
    assert world.link.closed


def test_the_keepalive_value_of_the_server_is_obeyed() -> None:
    world = World()
    world.ask(query(id=1))
    world.turns()
    world.link.feed(with_keepalive(world.link.frames()[0], 30))
    world.later(2.6)
    assert not world.link.closed
    world.later(0.2)
    assert world.link.closed
    assert world.replies() == [(answer(query(id=1)), CLIENT)], "the option is not for the client"


def test_keepalive_zero_means_no_more_queries_here() -> None:
    world = World()
    world.ask(query(id=1), query(id=2))
    world.turns()
    first, second = world.link.frames()
    old = world.link
    old.feed(with_keepalive(first, 0))
    world.turns()
    world.ask(query(id=3))
    world.turns()
    assert len(world.opened) == 2
    assert not old.closed
    old.feed(answer(second))
    world.turns()
    assert old.closed
    assert len(world.replies()) == 2


@pytest.mark.parametrize("code", [errno.ECONNREFUSED, errno.ENETUNREACH, 10061])
def test_an_upstream_that_refuses_leads_to_the_next(code: int) -> None:
    world = World("tls://192.0.2.1", "tls://192.0.2.2")

    def refuse_first(address: Endpoint) -> Tcp:
        if address.host == "192.0.2.1":
            raise OSError(code, "injected")
        return Tcp()

    world.on_open = refuse_first
    world.ask(query())
    world.turns()
    world.link.feed(answer(world.link.frames()[0]))
    world.turns()
    assert len(world.replies()) == 1
    assert world.forwarder.statistics()["failed_connections"] == 1


def test_a_connection_that_breaks_under_the_first_queries_is_let_go_of() -> None:
    """It opens, the waiting queries are written at once, and that write fails."""

    class Broken(Tcp):
        def send(self, data: bytes) -> int:
            raise BrokenPipeError(errno.EPIPE, "injected")

    world = World()
    world.on_open = lambda address: Broken()
    world.ask(query())
    world.later(0.5)
    assert all(sock.closed for _, sock in world.opened)
    assert not any(isinstance(sock, Broken) for sock in world.selector.keys)
    world.on_open = lambda address: Tcp()
    world.serve(2.0)
    assert world.replies() == [(answer(query()), CLIENT)]


def test_a_connect_that_fails_later_leads_to_the_next() -> None:
    world = World("tls://192.0.2.1", "tls://192.0.2.2")
    first = Tcp(connected=False)
    world.on_open = lambda address: first if address.host == "192.0.2.1" else Tcp()
    world.ask(query())
    world.turns()
    first.error = ConnectionRefusedError(errno.ECONNREFUSED, "injected")
    world.turns()
    assert first.closed
    assert world.opened[-1][0].host == "192.0.2.2"
    assert len(world.link.frames()) == 1


def test_a_black_hole_leads_to_the_next_and_is_given_up() -> None:
    world = World("tls://192.0.2.1", "tls://192.0.2.2")
    world.on_open = lambda address: Tcp(connected=address.host != "192.0.2.1")
    world.ask(query())
    world.later(0.3)
    assert [address.host for address, _ in world.opened] == ["192.0.2.1", "192.0.2.2"]
    world.link.feed(answer(world.link.frames()[0]))
    world.later(CONNECT_LIMIT)
    assert world.opened[0][1].closed
    assert len(world.replies()) == 1


@pytest.mark.parametrize(
    "forged",
    [
        b"\x12\x34\x81\x80\0\1",
        query(),
        answer(query("other.example")),
        answer(query(id=0x4321)),
        answer(query(rtype=28)),
        b"\x12\x34\x81\x80\0\0\0\0\0\0\0\0",
        b"\x12\x34\xa9\x80" + answer(query())[4:],
    ],
    ids=["short", "a query", "other name", "other ID", "other type", "no question", "other opcode"],
)
def test_what_does_not_answer_the_question_is_ignored(forged: bytes) -> None:
    world = World()
    world.ask(query())
    world.turns()
    world.link.feed(forged)
    world.turns()
    assert world.replies() == []
    world.link.feed(answer(query()), answer(query()))
    world.turns()
    assert world.replies() == [(answer(query()), CLIENT)], "the right one counts, once"
    counts = world.forwarder.statistics()
    assert counts["mismatched_answers"] + counts["unknown_answers"] == 2


def test_a_large_answer_that_does_not_add_up_is_only_cut() -> None:
    """Its records were never walked on the way, and truncation must not trip over them."""
    world = World()
    world.ask(query())
    world.turns()
    broken = answer(query(), bytes(700))
    world.link.feed(broken[:7] + b"\x09" + broken[8:])
    world.turns()
    ((reply, _),) = world.replies()
    assert reply[2] & 0x02
    assert len(reply) <= 512


def test_an_answer_whose_records_do_not_add_up_becomes_servfail() -> None:
    world = World()
    world.ask(query())
    world.turns()
    broken = answer(query())
    world.link.feed(broken[:10] + b"\0\1" + broken[12:])
    world.turns()
    ((reply, _),) = world.replies()
    assert reply[3] & 15 == 2


def test_two_clients_with_one_id_and_different_names_get_their_own() -> None:
    world = World()
    other = ("127.0.0.1", 40002)
    world.ask(query("one.example", 7))
    world.ask(query("two.example", 7), address=other)
    world.turns()
    sent = world.link.frames()
    assert len({frame[:2] for frame in sent}) == 2, "one ID is not in flight twice (RFC 7766 section 6.2.1)"
    world.link.feed(*(answer(frame) for frame in reversed(sent)))
    world.turns()
    assert sorted(world.replies(), key=lambda reply: reply[1]) == [
        (answer(query("one.example", 7)), CLIENT),
        (answer(query("two.example", 7)), other),
    ]


def test_identical_queries_travel_once_and_everyone_is_answered() -> None:
    world = World()
    for port in range(5000, 5200):
        world.ask(query(), address=("127.0.0.1", port))
    world.turns(20)
    (sent,) = world.link.frames()
    world.link.feed(answer(sent))
    world.turns()
    assert len(world.replies()) == 200


def test_a_flood_of_waiting_queries_is_sent_in_pieces_as_the_upstream_takes_them() -> None:
    world = World()
    world.on_open = lambda address: Tcp(connected=False)
    world.ask(*(query(id=number) for number in range(20000)))
    world.turns(400)
    assert len(world.forwarder.pending) == 20000
    world.link.window = 100_000
    world.link.connected = True
    world.turns(20)
    stream = next(iter(world.forwarder.services[0].links._streams.values()))
    assert len(stream.backlog) < HIGH_WATER + 2 * PIECE * 128
    assert len(world.forwarder.delivery.unsent) > 5000
    world.link.window = 1 << 30
    world.turns(20)
    assert [frame[:2] for frame in world.link.frames()] == [number.to_bytes(2, "big") for number in range(20000)]


def test_bytes_the_kernel_does_not_take_are_written_later_in_order() -> None:
    world = World()
    world.ask(query(id=1))
    world.turns()
    world.link.window = 50
    world.ask(*(query(id=number) for number in range(2, 40)))
    world.turns(10)
    for _ in range(200):
        world.link.window += 30
        world.turns(2)
    assert [frame[:2] for frame in world.link.frames()] == [number.to_bytes(2, "big") for number in range(1, 40)]
