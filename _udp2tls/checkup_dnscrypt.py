"""One DNSCrypt resolver, tried step by step, as ``--doctor`` reports it.

As in ``checkup``: blocking, one thing at a time, each step with its limit, by the codecs
that forwarding uses. What is more to know than forwarding wants to is got by two means: a
provider that keeps the answer its certificate came in, and a habit that lets a codec send
several queries at once to a server of which nothing is known yet.

What must never happen here: a query that is not sealed leaves, but the one for
certificates; or anything goes to the server where there is a relay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from _udp2tls import box, checkup, relay
from _udp2tls.certificate import NoCertificate
from _udp2tls.checkup import DNSKEY, NS, SOA, Stream, Tools, ms
from _udp2tls.codec import CodecError, ConnectionLost
from _udp2tls.config import Endpoint, UpstreamSpec
from _udp2tls.dnscrypt import Udp
from _udp2tls.dnscrypt_tcp import Tcp
from _udp2tls.provider import Habit, Provider

# How long another answer is waited for after one whose certificates are no good: whoever
# forged the first cannot keep the right one away.
SECOND_ANSWER = 1.0
# For the answer to a query that a resolver may refuse, or have no room for.
BRIEFLY = 2.0
_READ = 65536

ONE_SHOT = "one query a connection, then the server closes: each further one costs a connection"
MUTE = "one query a connection: a second one had no answer"
REPEATS = "persistent, one query at a time: it repeats one answer for others that come together"


class Recorder(Provider):
    """A provider that keeps an answer to a query for certificates: the longest, for others were cut short.

    ``refusal``: why there is nothing in it that can be used. ``refused_at``: when the first
    such answer came; 0.0: none did.
    """

    answer = b""
    refusal = ""
    refused_at = 0.0

    def take(self, answer: bytes, now: float) -> None:
        longest = len(answer) >= len(self.answer)
        if longest:
            self.answer = answer
        try:
            super().take(answer, now)
        except NoCertificate as error:
            self.refused_at = self.refused_at or now
            if longest:
                self.refusal = str(error)
            raise
        self.refused_at, self.refusal = 0.0, ""


@dataclass
class Way:
    """What was seen of one way, UDP or TCP. ``error`` ended it, in the step named ``step``; times are in seconds.

    ``certificate``: how long it took to come; 0.0: it did not. ``manners``: what the server
    does with several queries on a TCP connection.
    """

    step: str = "connect"
    error: Exception | None = None
    connect: float = 0.0
    certificate: float = 0.0
    round_trip: float = 0.0
    answer: bytes = b""
    cut_short: bool = False
    manners: str = ""


class Conversation:
    """A codec and its socket, driven by whoever waits for it. Raises OSError and CodecError."""

    def __init__(self, stream: Stream, codec: Udp | Tcp, tools: Tools) -> None:
        self._stream, self._codec, self._clock = stream, codec, tools.clock
        self._datagrams = isinstance(codec, Udp)
        self.came: list[bytes] = []
        self.ended = False

    def run(self, done: Callable[[], bool], seconds: float) -> None:
        """Exchange what is to be exchanged until ``done``. Raises TimeoutError."""
        codec, until = self._codec, self._clock() + seconds
        self._write()
        while not done():
            if self.ended:
                raise ConnectionLost("the server closed the connection")
            now = self._clock()
            if now >= until:
                raise TimeoutError
            if codec.deadline <= now:
                self.came += codec.receive((), now)
            else:
                self._read(min(codec.deadline, until) - now)
            self._write()

    def _write(self) -> None:
        out = self._codec.outgoing()
        for chunk in out if self._datagrams else [b"".join(out)] if out else []:
            self._stream.sendall(chunk)

    def _read(self, seconds: float) -> None:
        self._stream.settimeout(seconds)
        try:
            data = self._stream.recv(_READ)
        except TimeoutError:
            return
        if data or self._datagrams:
            self.came += self._codec.receive([data], self._clock())
        else:
            self.ended = True
            self.came += self._codec.eof(self._clock())

    def ask(self, queries: Sequence[bytes], seconds: float) -> list[bytes]:
        """Send all at once; return the answers in the order they came. Raises when none does."""
        self.came = []
        self._codec.send(queries, self._clock())
        try:
            self.run(lambda: len(self._right(queries)) >= len(queries), seconds)
        except (OSError, CodecError):
            if not self._right(queries):
                raise
        return self._right(queries)

    def _right(self, queries: Sequence[bytes]) -> list[bytes]:
        asked = {query[:2]: query for query in queries}
        return [one for one in self.came if one[:2] in asked and checkup.answers(asked[one[:2]], one)]

    def close(self) -> None:
        self._stream.close()


class Checkup:
    """The steps, in the order they are to be taken: ``over_udp``, ``over_tcp``, ``over_udp_again``."""

    def __init__(self, spec: UpstreamSpec, tools: Tools) -> None:
        self.address = spec.relay or Endpoint(spec.host, spec.port)
        self._spec, self._tools = spec, tools
        self._prefix = relay.prefix(spec.host, spec.port) if spec.relay else b""
        self.provider = self._recorder()  # what UDP brought
        self.over_stream = self._recorder()  # what TCP brought

    def _recorder(self) -> Recorder:
        spec, tools = self._spec, self._tools
        return Recorder(
            spec.name, spec.key, tools.rng.randbytes, tools.wall, xsalsa20=not box.why_not(box.XSALSA20)
        )  # fmt: skip

    @property
    def best(self) -> Recorder:
        """Who has certificates to show, if either has."""
        return max(self.provider, self.over_stream, key=lambda one: (one.keys is not None, len(one.answer)))

    def _query(self, kind: int) -> bytes:
        return checkup.query(b"\0", kind, self._tools.rng.randbytes(2))

    def over_udp(self) -> Way:
        """Get a certificate, ask what is short, ask what is long."""
        way = Way(step="certificate")
        self._udp(way, self.provider)
        return way

    def over_udp_again(self, way: Way) -> None:
        """Ask with the certificate that TCP brought, where UDP has no room for it."""
        if not way.certificate and self.over_stream.ready(self._tools.clock()):
            self._udp(way, self.over_stream)

    def _udp(self, way: Way, provider: Recorder) -> None:
        tools, clock, given = self._tools, self._tools.clock, provider.keys is not None
        talk = None
        try:
            codec = Udp(provider, clock(), prefix=self._prefix)
            talk = Conversation(tools.datagrams(self.address, tools.patience), codec, tools)
            started = clock()
            talk.run(lambda: codec.room > 0 or 0.0 < provider.refused_at <= clock() - SECOND_ANSWER, tools.patience)
            if codec.room:
                way.certificate, way.step = 0.0 if given else clock() - started, "answer"
                self._ask(talk, way)
                way.cut_short = self._cut_short(talk)
        except (OSError, CodecError) as error:
            way.error = error
        finally:
            if talk:
                talk.close()

    def _ask(self, talk: Conversation, way: Way) -> None:
        started = self._tools.clock()
        way.answer = talk.ask([self._query(NS)], self._tools.patience)[0]
        way.round_trip = self._tools.clock() - started

    def _cut_short(self, talk: Conversation) -> bool:
        """True when the answer to a query for something long has no room, however much the query is padded."""
        try:
            return bool(talk.ask([self._query(DNSKEY)], BRIEFLY)[0][2] & 2)
        except (OSError, CodecError):
            return False

    def over_tcp(self) -> Way:
        """Connect; get a certificate; ask one query, another, and many, with what certificate there is."""
        way = Way()
        try:
            self._certificate_over_tcp(way)
        except (OSError, CodecError) as error:
            way.error = error
        now = self._tools.clock()
        keys = next((one for one in (self.over_stream, self.provider) if one.ready(now)), None)
        if way.step == "connect" or keys is None:
            return way
        way.step, way.error = "answer", None
        try:
            self._manners(way, keys)
        except (OSError, CodecError) as error:
            way.error = error
        return way

    def _certificate_over_tcp(self, way: Way) -> None:
        own, clock = self.over_stream, self._tools.clock
        talk, way.connect = self._connect(own, Habit())
        way.step, started = "certificate", clock()
        try:
            talk.run(lambda: own.ready(clock()), self._tools.patience)
            way.certificate = clock() - started
        finally:
            talk.close()

    def _connect(self, keys: Provider, habit: Habit) -> tuple[Conversation, float]:
        tools, started = self._tools, self._tools.clock()
        stream = tools.connect(self.address, tools.patience)
        connected = tools.clock()
        return Conversation(stream, Tcp(keys, connected, prefix=self._prefix, habit=habit), tools), connected - started

    def _manners(self, way: Way, keys: Provider) -> None:
        repeats = keys.counts["repeats"]
        talk, _ = self._connect(keys, Habit())
        try:
            self._ask(talk, way)
            talk.ask([self._query(SOA)], self._tools.patience)
        except (OSError, CodecError) as error:
            if not way.answer:
                raise
            closed = not isinstance(error, TimeoutError)
            way.manners = REPEATS if keys.counts["repeats"] > repeats else ONE_SHOT if closed else MUTE
            return
        finally:
            talk.close()
        way.manners = self._several(keys)

    def _several(self, keys: Provider) -> str:
        """Send several queries at once and say what became of them."""
        tools, habit, queries = self._tools, Habit(), checkup.many(self._tools.rng)
        habit.width = len(queries)
        repeats, started = keys.counts["repeats"], tools.clock()
        came: Sequence[bytes] = ()
        try:
            talk, _ = self._connect(keys, habit)
            try:
                came = talk.ask(queries, tools.patience)
            finally:
                talk.close()
        except (OSError, CodecError):
            pass  # what it means is said below
        took = tools.clock() - started
        if len(came) == len(queries):
            order = "in order" if [one[:2] for one in came] == [one[:2] for one in queries] else "out of order"
            return f"persistent, several queries at once: {len(came)} answered {order} in {ms(took)}"
        if keys.counts["repeats"] > repeats:
            return REPEATS
        return f"persistent, one query at a time: of {len(queries)} sent at once {len(came)} were answered"
