"""inquiry: a thread asks the running forwarder, which never waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dnslib import RR, DNSRecord

import udp2tls
from _udp2tls import demo, wire
from _udp2tls.config import Config, parse_upstream
from _udp2tls.inquiry import Inquiry
from tests.fakes import World, answer, query

WAIT = 5.0


def aside(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Begin something in a thread; the list gets its result."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    return thread, results


def inquiry(world: World, patience: float = WAIT) -> tuple[Inquiry, list[str]]:
    """Return one for a loop that nobody wakes, and whom it asks otherwise about what."""
    asked: list[str] = []

    def otherwise(host: str) -> tuple[list[str], str]:
        asked.append(host)
        return ["192.0.2.99"], ""

    return Inquiry(lambda: world.forwarder.services[0], world.forwarder.do, otherwise, patience), asked


def turn_until(world: World, thread: threading.Thread, reply: Callable[[bytes], bytes] | None) -> None:
    """Run the loop, whose upstream answers with ``reply``, until the thread has what it wants."""
    end = time.monotonic() + WAIT
    while thread.is_alive():
        assert time.monotonic() < end
        while not world.forwarder._wishes.empty():
            world.forwarder._wishes.get()()
            world.forwarder._loop.look_soon()
        world.forwarder.turn()
        for _, sock in world.opened:
            frames = sock.frames()
            if reply:
                sock.feed(*map(reply, frames))
        if reply is None:
            world.clock.now += 0.01
        thread.join(0.001)


def test_a_query_from_a_thread_gets_its_answer() -> None:
    world = World()
    one, _ = inquiry(world)
    thread, results = aside(lambda: one.ask(query()))
    turn_until(world, thread, answer)
    assert results == [answer(query())]
    assert len(world.forwarder.pending) == 0


def test_the_same_query_of_a_client_and_of_a_thread_is_one_and_both_get_the_answer() -> None:
    world = World()
    one, _ = inquiry(world)
    world.ask(query())
    world.turns()
    thread, results = aside(lambda: one.ask(query()))
    turn_until(world, thread, answer)
    assert results == [answer(query())]
    assert [reply for reply, _ in world.replies()] == [answer(query())]
    assert world.forwarder.pending.coalesced == 1


def rcode(code: int) -> Callable[[bytes], bytes]:
    def reply(message: bytes) -> bytes:
        found = answer(message, count=0)
        return found[:3] + bytes([found[3] & 0xF0 | code]) + found[4:]

    return reply


@pytest.mark.parametrize("reply", [rcode(wire.SERVFAIL), rcode(wire.REFUSED), None])
def test_when_no_upstream_answers_others_are_asked(reply: Callable[[bytes], bytes] | None) -> None:
    world = World()
    one, asked = inquiry(world)
    thread, results = aside(lambda: one.find("mirror.example"))
    turn_until(world, thread, reply)
    assert results == [(["192.0.2.99"], "")]
    assert asked == ["mirror.example"]


@pytest.mark.parametrize(("code", "reason"), [(wire.NXDOMAIN, "the upstream says NXDOMAIN"),
                                              (wire.NOERROR, "the name has no address")])  # fmt: skip
def test_that_there_is_no_such_name_is_an_answer(code: int, reason: str) -> None:
    world = World()
    one, asked = inquiry(world)
    thread, results = aside(lambda: one.find("mirror.example"))
    turn_until(world, thread, rcode(code))
    assert results == [([], reason)]
    assert asked == []


def test_one_family_that_fails_does_not_matter() -> None:
    world = World()
    one, asked = inquiry(world)

    def reply(message: bytes) -> bytes:
        record = DNSRecord.parse(message)
        if record.q.qtype == 28:
            return rcode(wire.SERVFAIL)(message)
        found = record.reply()
        found.add_answer(*RR.fromZone("mirror.example 60 A 192.0.2.4"))
        return bytes(found.pack())

    thread, results = aside(lambda: one.find("mirror.example"))
    turn_until(world, thread, reply)
    assert results == [(["192.0.2.4"], "")]
    assert asked == []


def test_a_loop_that_does_not_turn_is_not_waited_for_long() -> None:
    world = World()
    one, asked = inquiry(world, patience=0.01)
    assert one.ask(query()) == wire.respond(query(), len(query()), wire.SERVFAIL)
    assert one.find("mirror.example") == (["192.0.2.99"], "")
    assert asked == ["mirror.example"]
    while not world.forwarder._wishes.empty():  # it turns at last, and nobody waits any more
        world.forwarder._wishes.get()()
    world.serve(0.1)


def test_a_table_that_is_full_is_no_answer_and_does_not_end_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    one, _ = inquiry(world)

    def full(*args: object) -> None:
        raise wire.Malformed("too many queries are waiting", wire.SERVFAIL)

    monkeypatch.setattr(world.forwarder.services[0].pending, "add", full)
    thread, results = aside(lambda: one.ask(query()))
    turn_until(world, thread, answer)
    assert results[0][3] & 15 == wire.SERVFAIL


def test_what_is_no_query_never_reaches_the_loop() -> None:
    world = World()
    one, _ = inquiry(world)
    with pytest.raises(wire.Malformed):
        one.ask(query()[:-1])
    assert world.forwarder._wishes.empty()


def test_the_running_program_is_asked_and_its_end_is_an_answer_too(tmp_path: Path) -> None:
    files = demo.certificates(str(tmp_path))
    sock, port = udp2tls.Forwarder.open_demo_listener()
    forwarder = udp2tls.Forwarder(
        Config(
            upstreams=(parse_upstream(f"tls://127.0.0.1:{port}#{demo.NAME}"),), listen=(), ca_file=files.ca_file,
            timeout=WAIT,
        )
    )  # fmt: skip
    forwarder.clients.listen_tcp(sock, False, demo.codec_factory(files), demo.answer)
    runner = threading.Thread(target=forwarder.run)
    runner.start()
    one = Inquiry(lambda: forwarder.services[0], forwarder.do, lambda host: ([], "nobody else"))
    try:
        assert one.find("mirror.example") == (["192.0.2.1", "2001:db8::1"], "")
    finally:
        forwarder.stop("the test is over")
        runner.join(WAIT)
    began = time.monotonic()
    late = Inquiry(lambda: forwarder.services[0], forwarder.do, lambda host: ([], "nobody else"), 0.05)
    assert late.find("mirror.example") == ([], "nobody else")
    assert time.monotonic() - began < WAIT
