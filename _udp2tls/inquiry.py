"""Asking the running forwarder from another thread: a client without a socket.

Owns the way of a query into the loop, and of its answer back to the thread that waits for it.
The loop never waits: it is handed the query as if a client had sent it, and hands the answer
to an event. So a name that is looked up here travels to our own upstreams, encrypted.

When they do not answer at all (the list they come from is missing, or so old that they are
gone), ``otherwise`` is asked, as it is for upstreams' own names: the bootstrap resolvers or
the system's. An answer that there is no such name is an answer, and nobody else is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from _udp2tls import lookup, wire

# Seconds for one answer; the forwarder itself gives up before, after ``Config.timeout`` (4 by default).
PATIENCE = 6.0


class Inquiry:
    """See the file's docstring. ``service`` gives, in the loop, the Service to ask; ``do`` hands a call to the loop."""

    def __init__(
        self, service: Callable[[], Any], do: Callable[[Callable[[], None]], None],
        otherwise: Callable[[str], tuple[list[str], str]], patience: float = PATIENCE,
    ) -> None:  # fmt: skip
        self._service, self._do, self._otherwise, self._patience = service, do, otherwise, patience

    def ask(self, message: bytes) -> bytes:
        """Return the answer to one query, SERVFAIL when none comes. Blocks, so never call it in the loop."""
        message = bytes(message)  # dnslib packs bytearrays
        end, _ = wire.parse_query(message)  # raises Malformed here, where it harms no loop
        came = threading.Event()
        answers: list[bytes] = []

        def deliver(answer: bytes, address: object) -> None:
            answers.append(answer)
            came.set()

        def put() -> None:
            try:
                self._service().submit(message, deliver)
            except wire.Malformed:  # the table is full
                came.set()

        self._do(put)
        came.wait(self._patience)
        return answers[0] if answers else wire.respond(message, end, wire.SERVFAIL)

    def find(self, host: str) -> tuple[list[str], str]:
        """Return the addresses of a host name, or why there are none. Blocks."""
        codes: list[int] = []

        def ask(message: bytes) -> bytes:
            answer = self.ask(message)
            codes.append(answer[3] & 15)
            return answer

        found = lookup.through(ask, host, "the upstream")
        if found[0] or wire.NOERROR in codes or wire.NXDOMAIN in codes:
            return found
        return self._otherwise(host)
