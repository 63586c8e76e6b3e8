"""A UDP listener: datagrams in, a batch at a time, and answers out.

Owns how many datagrams a turn reads, and the way it reads and answers them: one by one
while queries come one by one; when they come in crowds, by ``mmsg``, where the system has
it, with the answers kept for the end of the turn. It does not look into a datagram.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _udp2tls.mmsg import Address, Calls
    from _udp2tls.pending import Client

# Datagrams a turn: answers must not be kept waiting by a flood.
BATCH = 64

# From so many a turn on they are read, and answered, in one call, until there are fewer than half.
CROWD = 16


class Listener:
    """See the file's docstring. ``guarded``: not everyone may ask; who may is for others to say.

    ``budget`` is how many datagrams the next turn reads. It follows the traffic, for
    finding the socket empty costs more than a datagram: one by one while queries come
    one by one, more when the turn before left some, fewer when it found the end.
    """

    __slots__ = (
        "_budget", "_calls", "_counts", "_dirty", "_find_calls", "_outbox", "_read_at", "_recvfrom", "_sendto", "_sock",
        "guarded",
    )  # fmt: skip

    def __init__(
        self, sock: Any, guarded: bool, counts: dict[str, int], dirty: list[Any],
        find_calls: Callable[[Any], Calls | None] | None = None,
    ) -> None:  # fmt: skip
        """Serve a bound socket. ``dirty`` is where it is noted when it has answers to write.

        ``find_calls`` is asked once, for the system's way to deal with crowds; None: there is none.
        """
        self.guarded = guarded
        self._sock = sock
        self._recvfrom = sock.recvfrom
        self._sendto = sock.sendto
        self._counts = counts
        self._dirty = dirty
        self._budget = 1
        self._read_at = -2  # the last turn it had something to read
        self._calls: Calls | None = None
        self._find_calls: Callable[[Any], Calls | None] | None = find_calls or calls_of
        self._outbox: list[tuple[bytes, Address]] = []

    def receive(self, turn: int) -> list[tuple[bytes, Client]]:
        """Return the datagrams that have come, each with whom to answer; ``turn`` counts the loop's."""
        if self._budget >= CROWD:
            if self._find_calls:
                self._calls, self._find_calls = self._find_calls(self._sock), None
            if self._calls:
                return self._receive_crowd(self._calls)
        recvfrom, sendto, budget = self._recvfrom, self._sendto, self._budget
        received: list[tuple[bytes, Client]] = []
        try:
            for _ in range(budget):
                message, address = recvfrom(65535)
                if address[1]:
                    received.append((message, (sendto, address)))
                else:  # nothing can be sent to port 0
                    self._counts["dropped"] += 1
        except BlockingIOError:
            self._budget = max(1, len(received), budget // 2)
        except OSError:
            # An answer met a client that had gone (ECONNREFUSED; 10054 or 10052 on Windows), or
            # a datagram was longer than the buffer (10040). The next turn reads on.
            self._counts["dropped"] += 1
        if len(received) == budget and self._read_at == turn - 1:
            self._budget = min(BATCH, budget * 4)
        self._read_at = turn
        return received

    def _receive_crowd(self, calls: Calls) -> list[tuple[bytes, Client]]:
        try:
            received, dropped = calls.receive(self._sock.fileno())
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                self._counts["dropped"] += 1
            self._budget = 1
            return []
        self._counts["dropped"] += dropped
        if len(received) < CROWD // 2:
            self._budget = max(1, len(received))
        answer = self._answer
        return [(message, (answer, address)) for message, address in received]

    def _answer(self, answer: bytes, address: Address) -> None:
        if not self._outbox:
            self._dirty.append(self)
        self._outbox.append((answer, address))

    def flush_answers(self, _: object = None) -> None:
        """Write the answers that this turn left here."""
        outbox, self._outbox = self._outbox, []
        if self._calls and outbox:
            # Asked now: a socket that was closed has no number, and its old one may be another's.
            fd = self._sock.fileno()
            self._counts["unsendable"] += self._calls.send(fd, outbox) if fd >= 0 else len(outbox)


def calls_of(sock: Any) -> Calls | None:
    """Return the system calls that deal with many datagrams of a socket at once; None where there are none."""
    try:
        from _udp2tls import mmsg  # costs memory and a moment, and is for those with crowds of clients

        return mmsg.Calls(sock.family)
    except (ImportError, AttributeError, OSError):  # another system, or its parts are kept from us
        return None


def readable(address: Any) -> Any:
    """Return a client's address as the standard library writes it, host and port first; None stays None."""
    if not isinstance(address, bytes):
        return address
    # A sockaddr_in, or a sockaddr_in6 (RFC 3493 section 3.3).
    packed = address[4:8] if len(address) == 16 else address[8:24]
    return str(ipaddress.ip_address(packed)), int.from_bytes(address[2:4], "big")
