"""The queries that wait for an answer, and the clients that wait with them.

The table of clients is a dict whose key is the query itself: DNS ID, question,
and every other byte that may change the answer (flags, EDNS size, DO, client
subnet, letter case). Clients whose queries are the same in every byte share one
question to the upstream; queries that differ in any byte never share an answer.

Towards the upstream an ID is used once at a time, for RFC 7766 section 6.2.1
forbids two queries in flight with one ID on one connection. A query keeps its
client's ID when that is free, else it travels under another one and gets its own
back. So an answer is found by ID alone, and is believed only if it repeats the
question of the query with that ID.

Everything lives equally long, so the oldest entry is the first, and expiry looks
at the first entries only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import filterfalse, islice
from random import Random
from typing import TYPE_CHECKING, Any

from _udp2tls import edns, wire

if TYPE_CHECKING:
    from _udp2tls.link import Link
    from _udp2tls.upstream import Upstream

# Who gets an answer: something to call with the answer and the client's address.
# The address is None where the answer's size has no limit (TCP, the library).
Client = tuple[Callable[[bytes, Any], object], Any]

# What another upstream may know better.
_REFUSING = frozenset((wire.SERVFAIL, wire.REFUSED))

# One flood of identical queries must not grow one entry without end; 1000 is more
# clients than ask the same with the same ID by chance.
MAX_CLIENTS = 1000

# IDs are 16 bits; leaving some free keeps the search for one short.
MAX_PENDING = 60000

# Cut random bytes into IDs: to draw one at a time would take longer the more are in use.
_IDS = [slice(at, at + 2) for at in range(0, 64, 2)]

# With so many in use no free one is searched for: with all 65,536 the search had no end.
MAX_IDS = 65000


class Query:
    """One question to the upstream, and its askers. There may be 60,000: what can be had otherwise is not kept here."""

    __slots__ = (
        "asked", "clients", "end", "id", "link", "losses", "message", "opt", "other", "refusals", "renamed",
    )  # fmt: skip

    def __init__(self, message: bytes, end: int, opt: int, id: bytes, client: Client, asked: float) -> None:
        self.message = message
        self.end = end  # offset behind the question
        self.opt = opt  # offset of the OPT record, 0, or wire.SEALED
        self.id = id  # the ID it travels under
        self.renamed = False  # that is not the client's
        self.clients = [client]
        self.asked = asked  # monotonic seconds; all of one turn share the number
        self.link: Link | None = None  # the connection it was last written to
        self.other: Link | None = None  # a connection it was written to before, and may still be answered on
        self.refusals: list[tuple[Upstream, bytes]] | None = None  # what upstreams said that could not answer it
        self.losses = 0  # connections that ended when it was the oldest without an answer

    def accept(self, answer: bytes) -> bytes | None:
        """Return ``answer`` with the client's ID and question, or None if it answers something else."""
        message, end = self.message, self.end
        if len(answer) < wire.HEADER or answer[2] & 0xF8 != 0x80:  # QR set, opcode QUERY
            return None
        if answer[4:6] == b"\0\1":
            if len(answer) < end or not wire.same_question(answer, message, end):
                return None
            # The letter case is the client's: it may be part of its defence against forgery.
            return b"".join((message[:2], answer[2:12], message[12:end], answer[end:]))
        # A server that could not or would not read the question answers without it.
        if answer[4:10] == bytes(6) and answer[3] & 15 != wire.NOERROR:
            return wire.respond(message, end, answer[3] & 15)
        return None

    def error(self, rcode: int, code: int, text: str) -> bytes:
        """Build an error answer with an extended error (RFC 8914)."""
        return edns.error(self.message, self.end, self.opt, rcode, code, text)


class Probe(Query):
    """A question of our own, asked to see whether a connection lives: what are the root's name servers?"""

    __slots__ = ()


_ROOT_NS = b"\x01\0\0\1\0\0\0\0\0\0" + b"\0\0\2\0\1"  # RD set; every resolver knows the answer by heart


class Pending:
    """The table. ``lifetime`` is in seconds; ``random`` picks IDs when a client's own is taken."""

    def __init__(self, lifetime: float, random: Random, limit: int = MAX_PENDING) -> None:
        self.lifetime = lifetime
        self.limit = min(limit, MAX_PENDING)
        self.unknown = 0  # answers under an ID nobody waits for: late, or made up
        self.mismatched = 0  # answers that are none, or repeat another question
        self.coalesced = 0
        # Asked before SERVFAIL or REFUSED is taken for an answer; True when the query waits on.
        self.try_elsewhere: Callable[[Query, bytes], bool] = lambda query, answer: False
        self._random = random
        self._by_message: dict[bytes, Query] = {}
        self._by_id: dict[bytes, Query] = {}
        self.count = self._by_message.__len__  # what len() of the table says, sooner

    def __len__(self) -> int:
        return self.count()

    def add(self, message: bytes, client: Client, now: float) -> Query | None:
        """Take a client's query; return what is to be sent, or None if it is under way already.

        Raises wire.Malformed. The header must be complete and a query's.
        """
        query = self._by_message.get(message)
        if query is not None:
            self.coalesced += 1
            # The same datagram from the same place is a retransmission: one answer is enough.
            if client[1] is None or query.clients[-1] != client:
                if len(query.clients) >= MAX_CLIENTS:
                    raise wire.Malformed("too many clients wait for one answer", wire.REFUSED)
                query.clients.append(client)
            return None
        end, opt = wire.parse_query(message)
        id = message[:2]
        if id in self._by_id:
            id = self._free_id()
            query = Query(message, end, opt, id, client, now)
            query.renamed = True
        else:
            query = Query(message, end, opt, id, client, now)
        self._by_message[message] = self._by_id[id] = query
        return query

    def add_probe(self, hand_over: Callable[[bytes, Any], object], now: float) -> Probe | None:
        """Take a question of our own; None when the table is full."""
        if len(self._by_id) >= MAX_PENDING:
            return None
        id = self._free_id()
        message = id + _ROOT_NS
        probe = Probe(message, len(message), 0, id, (hand_over, None), now)
        self._by_message[message] = self._by_id[id] = probe
        return probe

    def drop(self, query: Query) -> bool:
        """Wait no longer for a query, whoever asked it gets nothing; False when nobody waited any more."""
        waits = self.holds(query)
        if waits:
            self._forget([query])
        return waits

    def _free_id(self) -> bytes:
        if len(self._by_id) >= MAX_IDS:
            raise wire.Malformed("too many queries are waiting", wire.SERVFAIL)
        while True:  # nearly always once: were 50,000 in use, all 32 would be in one case of 6000
            for id in filterfalse(self._by_id.__contains__, map(self._random.randbytes(64).__getitem__, _IDS)):
                return id

    def match(self, answer: bytes) -> tuple[Query, bytes] | None:
        """Return the query that ``answer`` answers, with the answer as its client knows it.

        The query is forgotten. An answer to nothing here is counted, and None returned;
        None too when ``try_elsewhere`` has found the query another upstream.
        """
        id = answer[:2]
        query = self._by_id.get(id)
        if query is None:
            self.unknown += 1
            return None
        # Nearly always: the same bytes of question, just one, in a response.
        if (
            not answer.startswith(query.message[12 : query.end], 12)
            or answer[5] != 1
            or answer[4]
            or answer[2] & 0xF8 != 0x80
        ):
            accepted = query.accept(answer)
            if accepted is None:
                self.mismatched += 1
                return None
            answer = accepted
        elif query.renamed:
            answer = query.message[:2] + answer[2:]
        if answer[3] & 15 in _REFUSING and self.try_elsewhere(query, answer):
            return None
        del self._by_id[id], self._by_message[query.message]
        return query, answer

    def find(self, answer: bytes) -> Query | None:
        """Return the query that ``answer`` answers; it waits on."""
        query = self._by_id.get(answer[:2])
        return query if query is not None and query.accept(answer) is not None else None

    def oldest(self, now: float) -> list[Query]:
        """Remove and return the queries whose time is up, and those over the limit, oldest first."""
        gone = list(islice(self._by_message.values(), max(0, len(self) - self.limit)))
        for query in islice(self._by_message.values(), len(gone), None):
            if query.asked + self.lifetime > now:
                break
            gone.append(query)
        self._forget(gone)
        return gone

    def clear(self) -> list[Query]:
        """Remove and return everything."""
        gone = list(self._by_message.values())
        self._forget(gone)
        return gone

    def _forget(self, queries: list[Query]) -> None:
        for query in queries:
            del self._by_id[query.id], self._by_message[query.message]

    def written_to(self, link: Link) -> list[Query]:
        """Return the queries that were written to ``link``, oldest first."""
        return [query for query in self._by_message.values() if query.link is link or query.other is link]

    def first(self) -> Query | None:
        """Return the query that has waited longest."""
        return next(iter(self._by_message.values()), None)

    def holds(self, query: Query) -> bool:
        """True while ``query`` waits."""
        return self._by_id.get(query.id) is query

    @property
    def deadline(self) -> float:
        """When the oldest query's time is up; inf when nothing waits."""
        for query in self._by_message.values():
            return query.asked + self.lifetime
        return math.inf

