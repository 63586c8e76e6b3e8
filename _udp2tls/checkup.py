"""One address of an upstream, tried step by step, as ``--doctor`` reports it.

Blocking and one thing at a time, unlike the rest of the house: what is measured is the
server, by the codecs that forwarding uses. It is given everything it may not have: a
clock, connections, randomness. Each step has ``Tools.patience`` seconds, however slowly
its bytes come, so that no server can hold up the report.

What must never happen here: a query on an unverified connection. ``look`` shakes hands
with verification off, to see the certificate that was refused; there is no codec in it
that could carry a query, and it ends before its own side of the handshake is sent.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from _udp2tls import edns, system, wire
from _udp2tls.codec import CodecError, ConnectionLost, ProtocolError
from _udp2tls.config import Endpoint
from _udp2tls.framing import Framing
from _udp2tls.tls import Session, Tls, chain_of

_READ = 65536
NS, SOA, DNSKEY, A = 2, 6, 48, 1
_RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")


class Stream(Protocol):
    """What a connected, blocking socket can do, as far as it is used here."""

    def settimeout(self, seconds: float, /) -> None: ...

    def sendall(self, data: bytes, /) -> None: ...

    def recv(self, size: int, /) -> bytes: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Tools:
    """What the front door gives. ``clock`` is monotonic, ``wall`` the time of day, both in seconds."""

    clock: Callable[[], float]
    wall: Callable[[], float]
    look_up: Callable[[str], tuple[list[str], str]]
    connect: Callable[[Endpoint, float], Stream] = system.open_blocking
    datagrams: Callable[[Endpoint, float], Stream] = system.open_datagrams
    bind: Callable[[Endpoint], Sequence[Any]] = system.bind_both
    rng: random.Random = field(default_factory=random.SystemRandom)
    say: Callable[[str], None] = lambda text: print(text, flush=True)
    patience: float = 5.0


@dataclass
class Findings:
    """What was seen of one address. ``error`` ended it, in the step named ``step``; times are in seconds."""

    address: Endpoint
    step: str = "connect"
    error: Exception | None = None
    connect: float = 0.0
    handshake: float = 0.0
    about: Mapping[str, str] = field(default_factory=dict)
    leaf: Mapping[str, Any] = field(default_factory=dict)
    chain: list[bytes] = field(default_factory=list)
    authenticated: bool = False
    resumption: str = ""
    round_trip: float = 0.0
    answer: bytes = b""
    pipelining: str = ""

    @property
    def rcode(self) -> str:
        return rcode(self.answer)


def rcode(answer: bytes) -> str:
    code = answer[3] & 15
    return _RCODES[code] if code < len(_RCODES) else f"RCODE {code}"


class Conversation:
    """One connection, driven by whoever waits for it. Raises OSError and CodecError."""

    def __init__(self, address: Endpoint, session: Session, tools: Tools) -> None:
        self._clock, self._patience = tools.clock, tools.patience
        started = self._clock()
        self._stream = tools.connect(address, tools.patience)
        self.connect = self._clock() - started
        self.codec = Tls.client(Framing(), session)
        self.ended = False

    def handshake(self) -> float:
        """Shake hands; return how long it took."""
        started = self._clock()
        while not self.codec.authenticated:
            self._exchange(started + self._patience)
        return self._clock() - started

    def ask(self, queries: Sequence[bytes]) -> tuple[list[bytes], Exception | None]:
        """Send all at once; return the answers in the order they came, and what kept the rest away."""
        until = self._clock() + self._patience
        waiting = {query[:2]: query for query in queries}
        came: list[bytes] = []
        try:
            self.codec.send(queries, self._clock())
            while waiting:
                if self.ended or self.codec.closing:
                    raise ConnectionLost("the server closed the connection")
                for message in self._exchange(until):
                    query = waiting.get(message[:2])
                    if query and answers(query, message):
                        del waiting[message[:2]]
                        came.append(message)
        except (CodecError, OSError) as error:
            return came, error
        return came, None

    def close(self) -> None:
        try:
            self.codec.close()
            self._stream.sendall(b"".join(self.codec.outgoing()))
        except (CodecError, OSError):
            pass  # it is over already, and nobody waits for the goodbye
        self._stream.close()

    def _exchange(self, until: float) -> list[bytes]:
        """Write what is due, wait for what comes."""
        left = until - self._clock()
        if left <= 0:  # bytes may come for ever and never make a message
            raise TimeoutError
        self._stream.settimeout(left)
        if out := b"".join(self.codec.outgoing()):
            self._stream.sendall(out)
        data = self._stream.recv(_READ)
        if data:
            return self.codec.receive([data], self._clock())
        self.ended = True
        return self.codec.eof(self._clock())


def answers(query: bytes, message: bytes) -> bool:
    if len(message) < wire.HEADER or not message[2] & 0x80:
        return False
    # A refusal may leave the question out.
    return message[4:6] == b"\0\0" or wire.same_question(query, message, wire.question_end(query))


def examine(address: Endpoint, session: Session, tools: Tools) -> Findings:
    """Try an address: connect, shake hands, ask, ask many at once, connect again."""
    found = Findings(address)
    session = replace(session, ticket=None)  # another address's ticket would hide this one's certificate
    conversation = None
    try:
        conversation = Conversation(address, session, tools)
        found.connect, found.step = conversation.connect, "handshake"
        found.handshake = conversation.handshake()
        found.authenticated, found.step = True, "answer"
        found.about = conversation.codec.description
        found.leaf, found.chain = conversation.codec.certificates
        _ask_one(conversation, found, tools)
        _ask_many(conversation, found, tools)
    except (CodecError, OSError) as error:
        found.error = error
    finally:
        if conversation:
            conversation.close()
    if found.answer:
        found.resumption = _again(address, session, found.handshake, tools)
    return found


def _ask_one(conversation: Conversation, found: Findings, tools: Tools) -> None:
    started = tools.clock()
    came, error = conversation.ask([query(b"\0", NS, tools.rng.randbytes(2))])
    if not came:
        raise error or ConnectionLost("no answer")
    found.round_trip, found.answer = tools.clock() - started, came[0]


def _ask_many(conversation: Conversation, found: Findings, tools: Tools) -> None:
    """Send several queries at once."""
    queries = many(tools.rng)
    ids = [query[:2] for query in queries]
    started = tools.clock()
    came, error = conversation.ask(queries)
    took = tools.clock() - started
    if isinstance(error, TimeoutError):
        said = "only one at a time: of 8 queries sent at once, 1 was answered" if len(came) == 1 else (
            f"{len(came)} of 8 queries sent at once were answered in {tools.patience:g} s"
        )  # fmt: skip
    elif isinstance(error, ProtocolError):
        said = f"breaks the protocol after {1 + len(came)} answers: {error}"
    elif error:
        after = "one answer" if not came else f"{1 + len(came)} answers"
        said = f"closes after {after}: each connection costs a handshake again; a slow server under load"
    else:
        in_order = [message[:2] for message in came] == ids
        said = f"{'in order' if in_order else 'out of order'}: 8 queries sent at once, all answered in {ms(took)}"
        if in_order:
            said += " (the slow ones went first: if it is always so, quick answers wait for slow ones)"
    found.pipelining = said


def _again(address: Endpoint, session: Session, first: float, tools: Tools) -> str:
    """Connect a second time, with the ticket of the first; send no query."""
    try:
        conversation = Conversation(address, session, tools)
        try:
            again = conversation.handshake()
            resumed = conversation.codec.description["resumed"] == "resumed"
        finally:
            conversation.close()
    except (CodecError, OSError) as error:
        return f"unknown: a second connection failed, {words(error, tools.patience)}"
    if resumed:
        return f"yes: second handshake in {ms(again)}, the first in {ms(first)}"
    return f"no: each connection pays for a whole handshake ({ms(again)} the second time)"


def many(rng: random.Random) -> list[bytes]:
    """Return eight queries, those that take a resolver long before those it knows by heart."""
    ids = [number.to_bytes(2, "big") for number in rng.sample(range(65536), 8)]
    names = [bytes((12, *(rng.choice(b"abcdefghijklmnopqrstuvwxyz") for _ in range(12)), 0)) for _ in range(5)]
    asked = [(name, A) for name in names] + [(b"\0", DNSKEY), (b"\0", SOA), (b"\0", NS)]
    return [query(name, kind, id) for (name, kind), id in zip(asked, ids)]


def query(name: bytes, kind: int, id: bytes) -> bytes:
    """Build a query as forwarding sends it: padded, and asking for the idle limit."""
    message = b"\0\0\1\0\0\1\0\0\0\0\0\0" + name + kind.to_bytes(2, "big") + b"\0\1"
    return edns.dress(message, 0, id)


def options(answer: bytes) -> dict[int, bytes]:
    """Return the EDNS options of an answer by code; raises wire.Malformed."""
    at, stop = wire.find_opt(answer, wire.question_end(answer) if answer[4:6] != b"\0\0" else wire.HEADER)
    found: dict[int, bytes] = {}
    if not at:
        return found
    at += 11
    wire.check_options(answer, at, stop)
    while at < stop:
        end = at + 4 + int.from_bytes(answer[at + 2 : at + 4], "big")
        found[int.from_bytes(answer[at : at + 2], "big")] = answer[at + 4 : end]
        at = end
    return found


def look(address: Endpoint, name: str, tools: Tools) -> list[bytes]:
    """Return the certificates a server presents, believed by nobody; raises OSError and CodecError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # see the file's docstring
    context.set_alpn_protocols(["dot"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    until = tools.clock() + 2 * tools.patience
    stream = tools.connect(address, tools.patience)
    try:
        tls = context.wrap_bio(incoming, outgoing, server_hostname=name)
        while True:
            try:
                tls.do_handshake()
                return chain_of(tls, "unverified")
            except ssl.SSLWantReadError:
                pass
            left = until - tools.clock()
            if left <= 0:
                raise TimeoutError
            stream.settimeout(left)
            stream.sendall(outgoing.read())
            data = stream.recv(_READ)
            if not data:
                raise ConnectionLost("the peer closed the connection during the TLS handshake")
            incoming.write(data)
    except ssl.SSLError as error:
        raise ProtocolError(f"TLS handshake: {error.reason or error}") from error
    finally:
        stream.close()


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"


def words(error: Exception, patience: float) -> str:
    """Say in words why a step ended."""
    if isinstance(error, TimeoutError) and not error.errno:
        return f"no reply within {patience:g} s"
    if isinstance(error, OSError):
        return (error.strerror or str(error) or type(error).__name__).lower()
    return str(error)
