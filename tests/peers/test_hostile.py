"""Broken and malicious messages from both sides: nobody else notices, and nobody gets another's answer."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest

from _udp2tls.path import SPREAD
from tests import authority
from tests.peers import asking, programs, scripted
from tests.peers.conftest import Start

pytestmark = [pytest.mark.peers, pytest.mark.slow]

TIMEOUT = 3  # seconds, the forwarder's

OPTS = (
    b"",
    asking.opt_record(),
    asking.opt_record(512, do=True),
    asking.opt_record(4096, b"\0\x0c\0\x04\0\0\0\0\0\x0a\0\x08abcdefgh"),
)


def mutated(message: bytes, rng: random.Random) -> bytes:
    """Return ``message`` with some bits flipped, bytes cut out or put in, or its end cut off."""
    data = bytearray(message)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data)) if data else 0
        kind = rng.randrange(5)
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and data:
            data[at] = rng.choice((0, 1, 0x3F, 0x40, 0x80, 0xC0, 0xFF))
        elif kind == 2:
            del data[at : at + rng.randint(1, 8)]
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.randint(1, 8))
        elif rng.random() < 0.3:
            del data[at:]
    return bytes(data)


def asked_for(answer: bytes, stream: bytes) -> bool:
    """True when ``stream``, everything a client sent, holds a query with the answer's ID and question."""
    question = asking.question_of(answer)
    at = stream.find(answer[:2])
    while at >= 0:
        if stream[at + 12 : at + 12 + len(question)] == question:
            return True
        at = stream.find(answer[:2], at + 1)
    return False


class Figures:
    """What the clients of one run sent and got."""

    def __init__(self) -> None:
        self.sent = 0
        self.answers: Counter[int] = Counter()  # by response code
        self.stray: list[bytes] = []

    def judge(self, answer: bytes, stream: bytes) -> None:
        self.answers[asking.rcode_of(answer)] += 1
        if len(answer) < 12 or not answer[2] & 0x80 or not asked_for(answer, stream):
            self.stray.append(answer)

    def __str__(self) -> str:
        return f"{self.sent} mutated, answers by rcode {dict(self.answers)}, {len(self.stray)} stray"


def mutate_over_udp(port: int, seconds: float, rng: random.Random, figures: Figures) -> None:
    """Send mutated queries at some 1000 a second, from a new port for every 50, and judge the answers."""
    end = time.monotonic() + seconds
    old: list[tuple[socket.socket, list[bytes]]] = []
    with contextlib.ExitStack() as stack:
        while time.monotonic() < end:
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sock.setblocking(False)
            sock.connect(("127.0.0.1", port))
            sent: list[bytes] = []
            old.append((sock, sent))
            for _ in range(50):
                name = asking.numbered(rng.randrange(1000))
                query = asking.make_query(name, rng.choice((1, 16, 28)), rng.randrange(65536), rng.choice(OPTS))
                sent.append(mutated(query, rng))
                sock.send(sent[-1])
                figures.sent += 1
                time.sleep(0.001)
            for one, queries in old[-60:]:
                _judge_waiting(one, queries, figures)
        time.sleep(TIMEOUT + 0.5)
        for one, queries in old:
            _judge_waiting(one, queries, figures)


def _judge_waiting(sock: socket.socket, queries: list[bytes], figures: Figures) -> None:
    while True:
        try:
            answer = sock.recv(65535)
        except BlockingIOError:
            return
        figures.judge(answer, b"".join(queries))


def mutate_over_tcp(port: int, seconds: float, rng: random.Random, figures: Figures) -> None:
    """Send mutated queries, some in frames of a wrong length, over one connection after another."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        stream = b""
        with socket.create_connection(("127.0.0.1", port), 6) as sock:
            try:
                for _ in range(rng.randint(1, 20)):
                    name = asking.numbered(rng.randrange(1000))
                    message = mutated(asking.make_query(name, opt=rng.choice(OPTS)), rng)
                    size = len(message) + (rng.choice((-3, -1, 1, 2, 500)) if rng.random() < 0.1 else 0)
                    data = max(0, size).to_bytes(2, "big") + message
                    stream += data
                    sock.sendall(data)
                    figures.sent += 1
                sock.shutdown(socket.SHUT_WR)
                while answer := asking.read_frame(sock):
                    figures.judge(answer, stream)
            except OSError:
                pass  # a client that breaks the format may be cut off


@pytest.mark.parametrize("upstream", ["scripted", *programs.SERVERS])
def test_mutated_queries_harm_nobody_else(
    upstream: str, certs: authority.Authority, start: Start, long_run: bool,
    server_named: Callable[[str], programs.Program],
) -> None:  # fmt: skip
    seconds = 20 if long_run else 3
    with contextlib.ExitStack() as stack:
        if upstream == "scripted":
            server = scripted.Server(scripted.serve, scripted.good_context(certs))
            port = stack.enter_context(server).port
        else:
            port = server_named(upstream).port
        bridge = start(*programs.upstream(port), "--timeout", str(TIMEOUT))
        files = bridge.open_files()
        figures = Figures()
        seed = random.randrange(1 << 32)
        threads = [
            threading.Thread(target=mutate, args=(bridge.port, seconds, random.Random(seed + number), figures))
            for number, mutate in enumerate((mutate_over_udp, mutate_over_tcp))
        ]
        for thread in threads:
            thread.start()
        tally = asyncio.run(asking.Asker.ask(bridge.port, 100, seconds))
        for thread in threads:
            thread.join(60)
        print(f"{upstream}, seed {seed}: {figures}\nsteady: {tally}")
        assert bridge.alive
        assert "Traceback" not in bridge.log
        assert figures.stray == []
        assert figures.answers
        _assert_all_right(tally)
        scripted.wait_until(lambda: bridge.open_files() <= files + 1, 40)


def _assert_all_right(tally: asking.Tally) -> None:
    assert tally.unanswered == 0
    assert tally.stray == []
    assert tally.wrong == []
    assert tally.servfail == 0
    assert tally.right == tally.sent


class Liar:
    """A script: names that begin with "bad" get any kind of nonsense, all others the right answer.

    One lie in ``1 / ending`` ends the connection.
    """

    def __init__(self, rng: random.Random, ending: float) -> None:
        self.told: Counter[str] = Counter()
        self._rng = rng
        self._ending = ending
        self._recent: list[bytes] = []
        self._lock = threading.Lock()

    def __call__(self, connection: scripted.Connection) -> None:
        for query in connection.queries():
            if query[12:16] != b"\x03bad":
                connection.answer(query)
                with self._lock:
                    self._recent = [*self._recent[-20:], query]
            elif self._rng.random() < self._ending:
                self._end(connection, query)
                return
            else:
                self._lie(connection, query)

    def _tell(self, kind: str) -> str:
        with self._lock:
            self.told[kind] += 1
        return kind

    def _end(self, connection: scripted.Connection, query: bytes) -> None:
        kind = self._tell(self._rng.choice(("noise, then end", "cut off", "not TLS")))
        if kind == "noise, then end":
            connection.write(self._rng.randbytes(300))
            connection.say_goodbye()
        elif kind == "cut off":
            connection.write(asking.framed(scripted.right_answer(query))[:-3])
            connection.reset()
        else:
            socket.socket.send(connection.sock, self._rng.randbytes(100))
            connection.finish()

    def _lie(self, connection: scripted.Connection, query: bytes) -> None:
        rng = self._rng
        right = scripted.right_answer(query)
        other = rng.choice(self._recent)
        lies: dict[str, list[bytes]] = {
            "silence": [],
            "mutated": [mutated(right, rng)],
            "mutated behind the question": [right[:40] + mutated(right[40:], rng)],
            "several, all mutated": [mutated(right, rng) for _ in range(4)],
            "wrong ID": [rng.randbytes(2) + right[2:], right],
            "another's ID": [other[:2] + right[2:]],
            "another's question": [right[:2] + scripted.right_answer(other)[2:]],
            "another's answer again": [scripted.right_answer(other)],
            "twice": [right, right],
            "the query itself": [query],
            "another type": [right.replace(b"\0\x01\0\x01", b"\0\x10\0\x01", 1)],
            "no question": [right[:4] + bytes(8)],
            "too many records": [right[:6] + b"\xff\xff\xff\xff\xff\xff" + right[12:]],
            "noise": [rng.randbytes(rng.randrange(300))],
            "empty": [b"", right],
            "64 KB": [right.ljust(65535, b"\0")],
        }
        connection.send(*lies[self._tell(rng.choice(list(lies)))])


@pytest.mark.parametrize("ending", [0.0, 0.04], ids=["connection-stays", "connection-breaks"])
def test_an_upstreams_nonsense_harms_nobody_but_who_asked_for_it(
    ending: float, certs: authority.Authority, start: Start, long_run: bool
) -> None:
    seconds = 20 if long_run else 3
    seed = random.randrange(1 << 32)
    liar = Liar(random.Random(seed), ending)
    with scripted.Server(liar, scripted.good_context(certs)) as server:
        bridge = start(*programs.upstream(server.port), "--timeout", str(TIMEOUT))
        message = asking.make_query("n1.test.example")
        assert asking.is_right(message, asking.ask_udp(bridge.port, message))
        files = bridge.open_files()

        def bad(serial: int) -> bytes:
            return asking.make_query(f"bad.q{serial}.test.example", id=serial, opt=asking.opt_record())

        async def run() -> tuple[asking.Tally, asking.Tally]:
            return await asyncio.gather(
                asking.Asker.ask(bridge.port, 100, seconds), asking.Asker.ask(bridge.port, 60, seconds, bad)
            )  # fmt: skip

        steady, lied_to = asyncio.run(run())
        print(f"seed {seed}: {liar.told.total()} lies, {server.accepted} connections, {dict(liar.told)}")
        print(f"steady: {steady}\nlied to: {lied_to}")
        assert bridge.alive
        assert "Traceback" not in bridge.log
        assert lied_to.unanswered == 0
        assert lied_to.stray == []
        _assert_all_right(steady)
        # Lies can teach that this server works on one query at a time, or takes so many a connection: then
        # several are kept. Those on which a query was left without an answer go when its time is up.
        scripted.wait_until(lambda: bridge.open_files() < files + SPREAD)


def test_a_forged_answer_under_a_right_id_is_not_believed(certs: authority.Authority, start: Start) -> None:
    def forge_first(connection: scripted.Connection) -> None:
        for query in connection.queries():
            right = scripted.right_answer(query)
            longer = right.replace(asking.question_of(query), asking.question_of(asking.make_query("n9.evil.example")))
            connection.send(longer, right[:13] + b"z" + right[14:], right[:2] + query[2:], right)

    with scripted.Server(forge_first, scripted.good_context(certs)) as server:
        bridge = start(*programs.upstream(server.port))
        tally = asyncio.run(asking.Asker.ask(bridge.port, 100, 1))
        _assert_all_right(tally)
