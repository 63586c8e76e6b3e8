"""Clients: what comes in over UDP and TCP, and what goes back."""

from __future__ import annotations

import errno

import pytest

from _udp2tls.clients import CLIENT_IDLE, CLIENT_QUERIES
from _udp2tls.listener import BATCH
from tests.fakes import CLIENT, Tcp, World, answer, query, question


def test_a_query_over_udp_is_forwarded_and_answered() -> None:
    world = World()
    world.ask(query())
    world.turns()
    (sent,) = world.link.frames()
    assert sent[:2] == b"\x12\x34"
    assert sent[12 : 12 + len(question())] == question()
    world.link.feed(answer(sent))
    world.turns()
    assert world.replies() == [(answer(query()), CLIENT)]


def test_answers_over_the_clients_size_are_truncated_and_whole_over_tcp() -> None:
    world = World()
    stream = world.client()
    world.ask(query(id=1), query(id=2, size=1000), query(id=3, size=4096))
    stream.feed(query(id=4))
    world.turns()
    by_id = {sent[:2]: answer(sent, bytes(100), 12) for sent in world.link.frames()}
    world.link.feed(*by_id.values())
    world.turns()
    whole = answer(query(), bytes(100), 12)[2:]
    for reply, _ in world.replies():
        assert len(reply) <= 512
        assert reply[2] & 0x02
        assert reply[6:10] == bytes(4)
    (framed,) = stream.frames()
    assert framed == b"\0\4" + whole
    assert len(framed) > 1232


@pytest.mark.parametrize(("size", "fits"), [(0, 512), (100, 512), (900, 900), (1232, 1232), (65535, 1232)])
def test_the_limit_is_512_or_the_edns_size_capped_at_1232(size: int, fits: int) -> None:
    world = World()
    world.ask(query(id=1, size=size), query(id=2, size=size))
    world.turns()
    first, second = world.link.frames()
    base = len(answer(query(), b""))
    world.link.feed(answer(first, bytes(fits - base)), answer(second, bytes(fits - base + 1)))
    world.turns()
    (exact, _), (over, _) = world.replies()
    assert len(exact) == fits
    assert not exact[2] & 0x02
    assert over[2] & 0x02


@pytest.mark.parametrize(
    "datagram",
    [b"", b"\0", query()[:11], b"\x12\x34\x81\x80" + query()[4:]],
    ids=["empty", "one byte", "no header", "a response"],
)
def test_what_is_not_a_query_is_dropped_and_counted(datagram: bytes) -> None:
    world = World()
    world.ask(datagram, query())
    world.turns()
    assert world.replies() == []
    assert world.forwarder.statistics()["dropped"] == 1
    assert len(world.link.frames()) == 1


def test_a_query_from_port_0_is_dropped() -> None:
    world = World()
    world.ask(query(), address=("127.0.0.1", 0))
    world.turns()
    assert not world.opened
    assert world.forwarder.statistics()["dropped"] == 1


@pytest.mark.parametrize(
    ("datagram", "rcode"),
    [
        (query()[:4] + b"\0\0" + query()[6:], 1),
        (query()[:4] + b"\0\2" + query()[6:], 1),
        (query() + b"x", 1),
        (query()[:-1], 1),
        (b"\x12\x34\x28\0" + query()[4:], 4),
        (query(rtype=252), 4),
        (query() + bytes(60000), 1),
    ],
    ids=["no question", "two questions", "trailing byte", "cut off", "opcode UPDATE", "AXFR", "oversized"],
)
def test_bad_queries_get_their_rcode_over_udp_and_tcp(datagram: bytes, rcode: int) -> None:
    world = World()
    stream = world.client()
    world.ask(datagram)
    stream.feed(datagram)
    world.turns()
    ((reply, _),) = world.replies()
    assert stream.frames() == [reply]
    assert reply[:2] == b"\x12\x34"
    assert reply[2] & 0x80
    assert reply[3] & 15 == rcode
    assert not world.opened


def test_clients_outside_the_allowed_networks_are_not_served() -> None:
    from _udp2tls.config import parse_network

    world = World(allow=(parse_network("192.0.2.0/24"),))
    world.ask(query(id=1), address=("198.51.100.7", 5000))
    world.ask(query(id=2), address=("192.0.2.7", 5000))
    world.ask(query(id=3), address=("127.0.0.1", 5000))
    stranger = world.client(("198.51.100.7", 5000))
    world.turns()
    assert stranger.closed
    assert [frame[:2] for frame in world.link.frames()] == [b"\0\2", b"\0\3"]


@pytest.mark.parametrize("code", [errno.ECONNREFUSED, errno.ECONNRESET, 10054, 10040])
def test_a_client_that_vanished_does_not_stop_the_listener(code: int) -> None:
    world = World()
    world.udp.inbox.append(OSError(code, "injected"))
    world.ask(query())
    world.turns()
    assert len(world.link.frames()) == 1


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOBUFS, errno.EAGAIN, 10055, 10022])
def test_an_answer_that_cannot_be_sent_is_counted(code: int) -> None:
    world = World()
    world.ask(query())
    world.turns()
    world.link.feed(answer(world.link.frames()[0]))
    world.udp.send_error = OSError(code, "injected")
    world.turns()
    assert world.forwarder.statistics()["unsendable"] == 1
    world.udp.send_error = None
    world.ask(query(id=2))
    world.turns()
    world.link.feed(answer(world.link.frames()[0]))
    world.turns()
    assert len(world.replies()) == 1


def test_one_at_a_time_is_read_one_at_a_time_and_a_burst_in_batches() -> None:
    world = World()
    for number in range(5):
        world.ask(query(id=number))
        world.turns(1)
        world.turns(1)
    assert world.udp.reads == 5
    world.ask(*(query(id=number) for number in range(100, 300)))
    world.turns(10)
    assert not world.udp.inbox
    assert world.udp.reads < 5 + 200 + 3
    assert len(world.link.frames()) == 205


def test_a_batch_is_one_write() -> None:
    world = World()
    world.ask(query(id=1))
    world.turns()
    world.ask(*(query(id=number) for number in range(2, 2 + 3 * BATCH)))
    writes = 0
    for _ in range(12):
        before = len(world.link.sent)
        world.turns(1)
        writes += len(world.link.sent) != before
    assert writes <= 3 + 6  # the budget doubles up to BATCH


def test_tcp_clients_pipeline_and_get_answers_as_they_come() -> None:
    world = World()
    stream = world.client()
    stream.feed(query(id=1), query(id=2), query(id=3))
    world.turns()
    first, second, third = world.link.frames()
    world.link.feed(answer(third))
    world.turns()
    assert stream.frames() == [answer(query(id=3))]
    world.link.feed(answer(first), answer(second))
    world.turns()
    assert stream.frames() == [answer(query(id=1)), answer(query(id=2))]


def test_a_query_over_tcp_may_come_in_any_pieces() -> None:
    world = World()
    stream = world.client()
    data = len(query()).to_bytes(2, "big") + query()
    for at in range(len(data)):
        stream.inbox.append(data[at : at + 1])
        world.turns(1)
    world.turns()
    assert len(world.link.frames()) == 1


def test_a_half_closed_client_still_gets_its_answers() -> None:
    world = World()
    stream = world.client()
    stream.feed(query())
    stream.ended = True
    world.turns()
    assert not stream.closed
    world.link.feed(answer(world.link.frames()[0]))
    world.turns()
    assert stream.frames() == [answer(query())]
    assert stream.closed


def test_an_idle_tcp_client_is_closed_and_a_waiting_one_is_not() -> None:
    world = World(timeout=50.0)
    idle, waiting = world.client(), world.client()
    waiting.feed(query())
    world.turns()
    world.link.window = 0
    world.later(CLIENT_IDLE + 1)
    assert idle.closed
    assert not waiting.closed


def test_dripping_bytes_does_not_keep_a_client_alive() -> None:
    world = World()
    stream = world.client()
    for _ in range(20):
        stream.inbox.append(b"\0")
        world.later(2.0)
    assert stream.closed


def test_a_client_that_does_not_read_is_not_read_from_and_then_cut_off() -> None:
    world = World()
    stream = world.client()
    stream.window = 10
    stream.feed(query(id=1))
    world.turns()
    world.link.feed(answer(world.link.frames()[0], bytes(60000)))
    world.turns()
    stream.feed(query(id=2))
    world.turns()
    assert len(stream.inbox) == 1, "a client with answers to take is not read from"
    world.later(CLIENT_IDLE + 1)
    assert stream.closed


def test_answers_for_a_slow_reader_are_bounded() -> None:
    world = World()
    stream = world.client()
    stream.window = 0
    stream.feed(*(query(id=number) for number in range(30)))
    world.turns()
    world.link.feed(*(answer(frame, bytes(60000)) for frame in world.link.frames()))
    world.turns()
    assert stream.closed


def test_queries_under_way_per_tcp_client_are_bounded() -> None:
    world = World()
    stream = world.client()
    stream.feed(*(query(id=number) for number in range(CLIENT_QUERIES)))
    world.turns()
    stream.feed(query(id=5000))
    world.turns()
    assert len(stream.inbox) == 1
    world.link.feed(*(answer(frame) for frame in world.link.frames()))
    world.turns()
    assert not stream.inbox


def test_more_queries_than_ids_get_servfail_and_the_loop_goes_on() -> None:
    """A few TCP clients can have more queries under way than there are IDs."""
    world = World()
    world.on_open = lambda address: Tcp(connected=False)
    streams = [world.client() for _ in range(70)]
    for number, stream in enumerate(streams):
        stream.feed(*(query(f"client{number}.example", id) for id in range(1000)))
    world.turns()
    assert len(world.forwarder.pending) <= world.forwarder.pending.limit
    replies = [reply for stream in streams for reply in stream.frames()]
    assert len(replies) == 70000 - len(world.forwarder.pending)
    assert all(reply[3] & 15 == 2 for reply in replies)


def test_one_tcp_client_too_many_closes_the_quietest() -> None:
    world = World()
    world.forwarder.clients.limit = 3
    clients = []
    for _ in range(3):
        clients.append(world.client())
        world.later(1.0)
    clients[0].feed(query())
    world.turns()
    world.client()
    assert [client.closed for client in clients] == [False, True, False]


def test_running_out_of_descriptors_closes_the_quietest_client() -> None:
    world = World()
    first = world.client()
    world.tcp.queue.append(OSError(errno.EMFILE, "injected"))
    second = Tcp()
    world.tcp.queue.append((second, CLIENT))
    world.turns()
    assert first.closed
    assert not second.closed


@pytest.mark.parametrize("message", [b"\0" * 5, b"\x12\x34\x81\x80" + query()[4:]], ids=["short", "a response"])
def test_a_tcp_client_that_sends_no_query_is_closed(message: bytes) -> None:
    world = World()
    stream = world.client()
    stream.feed(message)
    world.turns()
    assert stream.closed


def test_a_reset_client_costs_nothing_but_itself() -> None:
    world = World()
    stream, other = world.client(), world.client()
    stream.feed(query(id=1))
    other.feed(query(id=2))
    world.turns()
    stream.error = ConnectionResetError(errno.ECONNRESET, "injected")
    world.link.feed(*(answer(frame) for frame in world.link.frames()))
    world.turns()
    assert stream.closed
    assert other.frames() == [answer(query(id=2))]


def test_listeners_rest_while_the_upstream_takes_nothing() -> None:
    from _udp2tls.links import HIGH_WATER

    world = World()
    world.ask(query(id=1))
    world.turns()
    world.link.window = 0
    asked = 0
    while asked < 20000 and world.udp in world.selector.keys:
        world.ask(*(query(id=asked + n + 2) for n in range(64)))
        asked += 64
        world.turns(1)
    assert world.udp not in world.selector.keys
    assert HIGH_WATER < asked * 130 < HIGH_WATER * 2
    world.link.window = 1 << 30
    world.turns()
    assert world.udp in world.selector.keys


def test_tcp_clients_get_the_options_that_are_asked_for_and_one_that_has_gone_costs_nothing() -> None:
    class Optional(Tcp):
        def __init__(self) -> None:
            super().__init__()
            self.options: list[tuple[int, int, int]] = []

        def setsockopt(self, *option: int) -> None:
            if self.error:
                raise self.error
            self.options.append(option)  # type: ignore[arg-type]

    world = World(client_options=((1, 9, 1),))
    gone, there = Optional(), Optional()
    gone.error = ConnectionResetError(104, "injected")
    world.tcp.queue.extend([(gone, CLIENT), (there, CLIENT)])
    world.turns()
    assert gone.closed
    assert there.options == [(1, 9, 1)]
    assert not there.closed
