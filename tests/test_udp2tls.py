"""The Forwarder as a whole: promises about time, endings, sockets."""

from __future__ import annotations

import errno
import socket
import sys
import threading
from pathlib import Path

import pytest

import udp2tls
from _udp2tls import demo
from _udp2tls.config import BindError, Config, Endpoint, parse_upstream
from _udp2tls.wire import Malformed
from tests.fakes import CLIENT, Tcp, World, answer, query


def refuse(address: Endpoint) -> Tcp:
    raise ConnectionRefusedError(errno.ECONNREFUSED, "injected")


def test_nobody_waits_longer_than_the_timeout() -> None:
    world = World(timeout=4.0)
    world.on_open = refuse
    world.ask(query(size=1232))
    world.later(3.9)
    assert world.replies() == []
    world.later(0.2)
    ((reply, address),) = world.replies()
    assert address == CLIENT
    assert reply[3] & 15 == 2
    assert b"\0\x0f" in reply, "an extended error"
    assert b"injected" in reply
    assert b"tls://192.0.2.53#one.example" in reply


def test_an_upstream_that_never_answers_is_named_in_the_error() -> None:
    world = World(timeout=4.0)
    world.ask(query(size=1232))
    world.later(4.2)
    ((reply, _),) = world.replies()
    assert b"no answer from tls://192.0.2.53" in reply


def test_a_client_without_edns_gets_a_plain_servfail() -> None:
    world = World()
    world.on_open = refuse
    world.ask(query())
    world.later(4.2)
    ((reply, _),) = world.replies()
    assert reply == b"\x12\x34\x81\x82" + query()[4:]


def test_an_outage_ends_with_the_first_query_after_it() -> None:
    world = World()
    world.on_open = refuse
    for number in range(100):
        world.ask(query(id=number))
        world.later(0.2)
    world.on_open = lambda address: Tcp()
    world.replies()
    world.ask(query(id=1000))
    world.serve(2.0)
    assert answer(query(id=1000)) in [reply for reply, _ in world.replies()]
    assert len(world.forwarder.pending) == 0
    assert not world.forwarder.delivery.unsent


def test_attempts_during_an_outage_are_few() -> None:
    world = World()
    world.on_open = refuse
    for number in range(300):
        world.ask(query(id=number))
        world.later(0.1)
    assert world.forwarder.statistics()["connections"] < 60


def test_too_many_waiting_queries_push_the_oldest_out_with_an_answer() -> None:
    world = World()
    world.on_open = refuse
    world.forwarder.pending.limit = 100
    world.ask(*(query(id=number, size=1232) for number in range(300)))
    world.turns(20)
    replies = [reply for reply, _ in world.replies()]
    assert [reply[:2] for reply in replies] == [number.to_bytes(2, "big") for number in range(200)]
    assert all(b"too many" in reply for reply in replies)
    assert len(world.forwarder.pending) == 100


def test_the_loop_sleeps_while_nothing_happens() -> None:
    world = World()
    world.ask(query())
    world.turns()
    world.link.feed(answer(world.link.frames()[0]))
    world.later(60.0)
    world.turns()
    assert world.selector.timeout > 3000


def test_closing_answers_what_waits() -> None:
    world = World()
    stream = world.client()
    stream.feed(query(id=1, size=1232))
    world.ask(query(id=2, size=1232))
    world.turns()
    world.forwarder.close()
    ((reply, _),) = world.replies()
    (framed,) = stream.frames()
    assert b"the forwarder is stopping" in reply
    assert b"the forwarder is stopping" in framed
    assert stream.closed
    assert world.udp.closed
    assert world.link.closed


def test_asking_without_a_listener_returns_the_answer() -> None:
    world = World()

    def serving(address: Endpoint) -> Tcp:
        sock = Tcp()
        world.forwarder._loop.wake_at = 0.0
        sock.feed(answer(query()))
        return sock

    world.on_open = serving
    assert world.forwarder.ask(query()) == answer(query())
    with pytest.raises(Malformed):
        world.forwarder.ask(answer(query()))


def config(*listen: Endpoint, **settings: object) -> Config:
    return Config(upstreams=(parse_upstream("tls://192.0.2.53"),), listen=listen, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_listening_binds_one_port_for_both(host: str) -> None:
    forwarder = udp2tls.Forwarder(config(Endpoint(host, 0)))
    try:
        (bound,) = forwarder.listen()
        assert bound.port
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as sock:
                sock.connect(tuple(bound))
    finally:
        forwarder.close()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_port_in_use_is_named_with_the_remedy(kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_INET, kind) as holder:
        holder.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            holder.listen()
        port = holder.getsockname()[1]
        forwarder = udp2tls.Forwarder(config(Endpoint("127.0.0.1", port)))
        with pytest.raises(BindError) as caught:
            forwarder.listen()
        forwarder.close()
    said = str(caught.value)
    assert f"127.0.0.1:{port}" in said
    assert ("UDP" if kind == socket.SOCK_DGRAM else "TCP") in said
    assert (f"-LocalPort {port})" if sys.platform == "win32" else f"ss -lunpt 'sport = :{port}'") in said


def test_a_missing_default_address_is_passed_over_and_a_named_one_is_not() -> None:
    here, missing = Endpoint("127.0.0.1", 0), Endpoint("192.0.2.1", 0)
    named = udp2tls.Forwarder(config(here, missing, allow=(_network("192.0.2.0/24"),)))
    with pytest.raises(BindError):
        named.listen()
    named.close()
    wished = udp2tls.Forwarder(config(here, missing, allow=(_network("192.0.2.0/24"),), listen_optional=True))
    assert [endpoint.host for endpoint in wished.listen()] == ["127.0.0.1"]
    wished.close()


def _network(text: str) -> object:
    from _udp2tls.config import parse_network

    return parse_network(text)


def test_stop_from_another_thread_ends_the_loop() -> None:
    forwarder = udp2tls.Forwarder(config(Endpoint("127.0.0.1", 0)))
    forwarder.listen()
    runner = threading.Thread(target=forwarder.run)
    runner.start()
    forwarder.stop("a test")
    runner.join(5)
    assert not runner.is_alive()


def test_a_name_is_looked_up_without_stopping_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def found(settings: Config, host: str) -> tuple[list[str], str]:
        asked.append(host)
        return [], "no such name"

    monkeypatch.setattr(udp2tls, "find_addresses", found)
    forwarder = udp2tls.Forwarder(
        Config(upstreams=(parse_upstream("tls://dns.example"),), listen=(), timeout=1.0)
    )
    try:
        reply = forwarder.ask(query(size=1232))
    finally:
        forwarder.close()
    assert "dns.example" in asked
    assert b"no such name" in reply


def test_names_are_looked_up_through_bootstrap_resolvers_over_tls(tmp_path: Path) -> None:
    files = demo.certificates(str(tmp_path))
    server = udp2tls.Forwarder(config())
    sock, port = udp2tls.Forwarder.open_demo_listener()
    server.clients.listen_tcp(sock, False, demo.codec_factory(files), demo.answer)
    runner = threading.Thread(target=server.run)
    runner.start()
    try:
        settings = Config(
            upstreams=(parse_upstream("tls://dns.example"),), listen=(), ca_file=files.ca_file,
            bootstrap=(parse_upstream(f"tls://127.0.0.1:{port}"),),
        )  # fmt: skip
        hosts, reason = udp2tls.find_addresses(settings, "dns.example")
    finally:
        server.stop("the test is over")
        runner.join(5)
    assert (hosts, reason) == (["192.0.2.1", "2001:db8::1"], "")


def ask_over_udp(endpoint: Endpoint, message: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(message, tuple(endpoint))
        return sock.recv(65535)


def test_reloading_keeps_the_sockets_of_the_addresses_that_stay_and_closes_the_others() -> None:
    stays, goes = Endpoint("127.0.0.1", 0), Endpoint("127.0.0.2", 0)
    forwarder = udp2tls.Forwarder(config(stays, goes))
    first, second = forwarder.listen()
    (again,) = forwarder.reload(config(stays, timeout=1.0))
    assert again == first
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(tuple(second))  # it is free again
    runner = threading.Thread(target=forwarder.run)
    runner.start()
    try:
        assert ask_over_udp(first, query()[:2] + b"\x28" + query()[3:])[3] & 15 == 4, "somebody answers: NOTIMP"
    finally:
        forwarder.stop("the test is over")
        runner.join(5)
    assert not runner.is_alive()


def test_a_configuration_that_cannot_be_had_changes_nothing() -> None:
    here = Endpoint("127.0.0.1", 0)
    forwarder = udp2tls.Forwarder(config(here))
    (bound,) = forwarder.listen()
    before = list(forwarder.services)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        taken = Endpoint("127.0.0.1", holder.getsockname()[1])
        with pytest.raises(BindError):
            forwarder.reload(config(here, Endpoint("127.0.0.3", 0), taken))
    with pytest.raises(udp2tls.ConfigError):
        forwarder.reload(config(here, ca_file="/no/such/file"))
    assert forwarder.services == before
    runner = threading.Thread(target=forwarder.run)
    runner.start()
    try:
        assert ask_over_udp(bound, query()[:2] + b"\x28" + query()[3:])[3] & 15 == 4
    finally:
        forwarder.stop("the test is over")
        runner.join(5)


def test_a_chore_is_done_when_it_asked_to_be() -> None:
    world = World()
    told: list[float] = []

    def chore(now: float) -> float:
        if not told or now >= told[-1] + 60:
            told.append(now)
        return told[-1] + 60

    world.forwarder.chore = chore
    world.forwarder._loop.look_soon()
    began = world.clock.now
    for _ in range(200):
        world.later(1)
    assert [round(at - began) for at in told] == [0, 60, 120, 180]
