"""Upstreams that crash, close, cut off, stay silent or lie about who they are: clients are answered all the same."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import authority
from tests.peers import asking, programs, scripted
from tests.peers.conftest import Start

pytestmark = pytest.mark.peers

CLIENTS_PATIENCE = 5.0  # seconds: what stub resolvers wait


def answered(port: int, name: str = "n3.test.example") -> bool:
    """Ask one query over UDP; True when it is answered rightly within a stub resolver's patience."""
    message = asking.make_query(name, opt=asking.opt_record())
    begin = time.monotonic()
    answer = asking.ask_udp(port, message)
    assert time.monotonic() - begin < CLIENTS_PATIENCE
    return asking.is_right(message, answer)


@dataclass(frozen=True)
class Crashes:
    """What clients and forwarder saw of a server that crashed again and again."""

    tally: asking.Tally
    answered_then: bool
    alive: bool
    files: tuple[int, int]  # open before and after


CRASHING = ["dnsdist", "unbound"]


@pytest.fixture(scope="module")
def crashes(
    certs: authority.Authority, tmp_path_factory: pytest.TempPathFactory, long_run: bool
) -> dict[str, Crashes]:
    """Let both servers crash every two seconds, each behind its own forwarder, at the same time."""
    seconds = 30 if long_run else 10

    async def run(server: programs.Program, bridge: programs.Program) -> Crashes:
        before = bridge.open_files()

        async def crash() -> None:
            while True:
                await asyncio.sleep(2)
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)

        crashing = asyncio.create_task(crash())
        try:
            tally = await asking.Asker.ask(bridge.port, 200, seconds)
        finally:
            crashing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await crashing
        if not server.alive:
            await asyncio.to_thread(server.start)
        right = await asyncio.to_thread(answered, bridge.port)
        return Crashes(tally, right, bridge.alive, (before, bridge.open_files()))

    async def run_all(pairs: list[tuple[programs.Program, programs.Program]]) -> list[Crashes]:
        return await asyncio.gather(*(run(*pair) for pair in pairs))

    with contextlib.ExitStack() as stack:
        pairs = []
        for name in CRASHING:
            server = stack.enter_context(programs.SERVERS[name](certs, tmp_path_factory.mktemp(name)))
            folder = tmp_path_factory.mktemp("udp2tls")
            bridge = programs.forwarder(folder, "--ca-file", certs.ca_file, *programs.upstream(server.port))
            pairs.append((server, stack.enter_context(bridge)))
            assert answered(bridge.port)
        return dict(zip(CRASHING, asyncio.run(run_all(pairs))))


@pytest.mark.parametrize("name", CRASHING)
def test_an_upstream_that_crashes_every_two_seconds_costs_hardly_an_answer(
    name: str, crashes: dict[str, Crashes]
) -> None:
    saw = crashes[name]
    tally = saw.tally
    print(f"{name}: {tally}; open files before and after: {saw.files}")
    assert saw.answered_then
    assert saw.alive
    assert tally.unanswered == 0
    assert tally.worst < CLIENTS_PATIENCE
    assert tally.wrong == []
    assert tally.stray == []
    assert tally.right_share >= 0.99
    assert saw.files[1] <= saw.files[0] + 1


def test_a_server_that_closes_after_each_answer_still_answers_everything(
    certs: authority.Authority, start: Start
) -> None:
    with scripted.Server(scripted.serve_one, scripted.good_context(certs)) as server:
        bridge = start(*programs.upstream(server.port))
        for serial in range(20):
            assert answered(bridge.port, asking.numbered(serial))
        tally = asyncio.run(asking.Asker.ask(bridge.port, 20, 3))
        print(tally)
        assert tally.right == tally.sent
        assert server.accepted >= tally.sent


def close_notify(connection: scripted.Connection) -> None:
    connection.say_goodbye()


def fin(connection: scripted.Connection) -> None:
    connection.finish()


def reset(connection: scripted.Connection) -> None:
    connection.reset()


@pytest.mark.parametrize("end", [close_notify, fin, reset])
def test_a_connection_closed_while_idle_is_nobodys_failure(
    end: Callable[[scripted.Connection], None], certs: authority.Authority, start: Start
) -> None:
    def serve_then_end(connection: scripted.Connection) -> None:
        connection.answer(connection.read())
        time.sleep(0.3)
        end(connection)

    with scripted.Server(serve_then_end, scripted.good_context(certs)) as server:
        bridge = start(*programs.upstream(server.port))
        for turn in range(1, 4):
            assert answered(bridge.port)
            scripted.wait_until(lambda: bridge.log.count("ended by the upstream after") == turn)  # noqa: B023 - used at once
        assert server.accepted == 3
        assert "WARNING" not in bridge.log


@pytest.mark.parametrize("end", [close_notify, fin, reset])
@pytest.mark.parametrize("part", [1, 2, 20, -1])
def test_an_answer_cut_off_in_the_middle_is_asked_for_again(
    part: int, end: Callable[[scripted.Connection], None], certs: authority.Authority, start: Start
) -> None:
    def cut_once(connection: scripted.Connection) -> None:
        if connection.server.accepted > 1:
            scripted.serve(connection)
        else:
            frame = asking.framed(scripted.right_answer(connection.read()))
            connection.write(frame[:part])
            time.sleep(0.1)
            end(connection)

    with scripted.Server(cut_once, scripted.good_context(certs)) as server:
        bridge = start(*programs.upstream(server.port))
        assert answered(bridge.port)
        assert server.accepted == 2
        assert len(server.queries) == 2


def test_a_server_that_falls_silent_is_given_up_for_a_new_connection(certs: authority.Authority, start: Start) -> None:
    def silent_once(connection: scripted.Connection) -> None:
        if connection.server.accepted > 1:
            scripted.serve(connection)
        else:
            connection.answer(connection.read())
            scripted.swallow(connection)

    with scripted.Server(silent_once, scripted.good_context(certs)) as server:
        bridge = start(*programs.upstream(server.port))
        assert answered(bridge.port)
        assert answered(bridge.port)
        assert server.accepted == 2


def test_what_a_closing_connection_owes_is_asked_again_and_holds_nobody_up(
    certs: authority.Authority, start: Start
) -> None:
    def say_goodbye_instead_of_an_answer_once(connection: scripted.Connection) -> None:
        if connection.server.accepted > 1:
            scripted.serve(connection)
        else:
            connection.answer(connection.read())
            connection.read()
            connection.say_goodbye()

    with (
        scripted.Server(say_goodbye_instead_of_an_answer_once, scripted.good_context(certs)) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        bridge = start(*programs.upstream(server.port))
        assert answered(bridge.port)
        sock.settimeout(asking.PATIENCE)
        sock.connect(("127.0.0.1", bridge.port))
        owed = asking.make_query("n2.test.example", opt=asking.opt_record())
        sock.send(owed)
        scripted.wait_until(lambda: len(server.queries) == 2)
        time.sleep(0.05)  # the goodbye arrives; the next query needs another connection
        assert answered(bridge.port)
        time.sleep(0.5)  # the first connection is over, the second is quiet
        for serial in range(3):
            assert answered(bridge.port, asking.numbered(serial))
        assert asking.is_right(owed, sock.recv(65535))


def test_a_query_the_upstream_hangs_up_on_takes_no_other_query_with_it(
    server_named: Callable[[str], programs.Program], start: Start
) -> None:
    """Dnsdist closes the connection on what its rules drop; so do others on what they will not answer."""
    bridge = start(*programs.upstream(server_named("dnsdist").port))

    def poison(serial: int) -> bytes:
        return asking.make_query("drop.test.example", id=serial, opt=asking.opt_record())

    async def run() -> tuple[asking.Tally, asking.Tally]:
        return await asyncio.gather(
            asking.Asker.ask(bridge.port, 50, 6), asking.Asker.ask(bridge.port, 1, 6, poison)
        )  # fmt: skip

    others, poisonous = asyncio.run(run())
    print(f"others: {others}\npoison: {poisonous}")
    assert poisonous.unanswered == 0
    assert poisonous.servfail == poisonous.sent
    assert others.unanswered == 0
    # Whoever is under way on the same connection may be taken for the culprit.
    assert others.right_share >= 0.95


def bad_certificate(stack: contextlib.ExitStack, certs: authority.Authority) -> int:
    context = scripted.context_for(certs.other_cert, certs.other_key)
    return stack.enter_context(scripted.Server(scripted.serve, context)).port


def refuses(stack: contextlib.ExitStack, certs: authority.Authority) -> int:
    return programs.free_port()


def never_accepts(stack: contextlib.ExitStack, certs: authority.Authority) -> int:
    return stack.enter_context(scripted.black_hole())


def accepts_and_says_nothing(stack: contextlib.ExitStack, certs: authority.Authority) -> int:
    return stack.enter_context(scripted.Server(scripted.serve, None)).port


def answers_nothing(stack: contextlib.ExitStack, certs: authority.Authority) -> int:
    return stack.enter_context(scripted.Server(scripted.swallow, scripted.good_context(certs))).port


def hangs_up(stack: contextlib.ExitStack, certs: authority.Authority) -> int:
    def read_and_close(connection: scripted.Connection) -> None:
        connection.read()
        connection.say_goodbye()

    return stack.enter_context(scripted.Server(read_and_close, scripted.good_context(certs))).port


@pytest.mark.parametrize(
    "first", [refuses, never_accepts, accepts_and_says_nothing, bad_certificate, answers_nothing, hangs_up]
)
def test_the_second_upstream_takes_over(
    first: Callable[[contextlib.ExitStack, authority.Authority], int], certs: authority.Authority, start: Start
) -> None:
    with contextlib.ExitStack() as stack:
        port = first(stack, certs)
        second = stack.enter_context(scripted.Server(scripted.serve, scripted.good_context(certs)))
        bridge = start(*programs.upstream(port), *programs.upstream(second.port))
        for serial in range(3):
            asked = time.monotonic()
            assert answered(bridge.port, asking.numbered(serial))
            # A resolver that is silent has two connections' time to say something.
            assert time.monotonic() - asked < 1.5
        assert len(second.queries) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("reachable", [True, False])
def test_a_signal_stops_it_within_a_second_and_leaves_no_client_without_an_answer(
    number: signal.Signals, reachable: bool, certs: authority.Authority, start: Start
) -> None:
    with contextlib.ExitStack() as stack:
        if reachable:
            server = stack.enter_context(scripted.Server(scripted.swallow, scripted.good_context(certs)))
            port = server.port
        else:
            port = programs.free_port()
        bridge = start(*programs.upstream(port))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.connect(("127.0.0.1", bridge.port))
        udp.settimeout(2)
        tcp = stack.enter_context(socket.create_connection(("127.0.0.1", bridge.port), 2))
        one, other = (asking.make_query(f"n{d}.test.example", opt=asking.opt_record()) for d in (1, 2))
        udp.send(one)
        tcp.sendall(asking.framed(other))
        if reachable:
            scripted.wait_until(lambda: len(server.queries) == 2)
        else:
            scripted.wait_until(lambda: "cannot use" in bridge.log)
            time.sleep(0.2)
        begin = time.monotonic()
        bridge.signal(number)
        assert bridge.process.wait(5) == 0
        assert time.monotonic() - begin < 1
        for asked, answer in (one, udp.recv(65535)), (other, asking.read_frame(tcp)):
            assert answer[:2] == asked[:2]
            assert asking.question_of(answer) == asking.question_of(asked)
            assert asking.rcode_of(answer) == asking.SERVFAIL
            assert "stopping" in asking.extended_error(answer)
        assert f"stopping: {number.name}; 2 queries" in bridge.log


def test_in_an_outage_every_query_gets_a_reason_in_time_and_its_end_is_noticed(
    certs: authority.Authority, start: Start, tmp_path: Path
) -> None:
    timeout = 2.0
    port = programs.free_port()
    bridge = start(*programs.upstream(port), "--timeout", f"{timeout:g}")
    tally = asyncio.run(asking.Asker.ask(bridge.port, 50, 3))
    print(tally)
    assert tally.servfail == tally.sent
    assert tally.unanswered == 0
    # Half a second for two clients that share two cores with everyone else.
    assert tally.worst < timeout + 0.5
    assert len(tally.reasons) == 1
    assert "connection refused" in next(iter(tally.reasons))
    output = programs.dig(bridge.port, "www.test.example")
    assert "status: SERVFAIL" in output
    assert re.search(r"; EDE: 23 \(Network Error\).*connection refused", output)
    with programs.unbound(certs, tmp_path, port):
        assert answered(bridge.port)


@pytest.fixture(scope="module")
def after_outages(certs: authority.Authority, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, bool]:
    """Live through an outage twice at once, once while queries wait; return whether the first query after it is
    answered."""

    def live_through(waiting: bool, bridge: programs.Program, port: int) -> bool:
        stop = threading.Event()
        thread = threading.Thread(target=_ask_again_and_again, args=(bridge.port, stop))
        begin = time.monotonic()
        message = asking.make_query("www.test.example", opt=asking.opt_record())
        assert asking.rcode_of(asking.ask_udp(bridge.port, message)) == asking.SERVFAIL
        assert time.monotonic() - begin < CLIENTS_PATIENCE
        if waiting:
            thread.start()
            time.sleep(3)
        try:
            with scripted.Server(scripted.serve, scripted.good_context(certs), port):
                return answered(bridge.port)
        finally:
            stop.set()
            if waiting:
                thread.join(20)

    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor())
        asked = {}
        for waiting in True, False:
            port = programs.free_port()
            folder = tmp_path_factory.mktemp("udp2tls")
            bridge = programs.forwarder(folder, "--ca-file", certs.ca_file, *programs.upstream(port))
            asked[waiting] = pool.submit(live_through, waiting, stack.enter_context(bridge), port)
        return {waiting: future.result() for waiting, future in asked.items()}


@pytest.mark.parametrize("waiting", [True, False], ids=["queries-wait-meanwhile", "nobody-asks-meanwhile"])
def test_the_first_query_after_an_outage_is_answered(waiting: bool, after_outages: dict[bool, bool]) -> None:
    assert after_outages[waiting]


def _ask_again_and_again(port: int, stop: threading.Event) -> None:
    while not stop.wait(0.1):
        asking.ask_udp(port, asking.make_query("n4.test.example"))
