"""What the parts of the forwarder share of a turn: the time, the next deadline, the counters.

Owns no socket and waits for nothing: it is given a selector and told the time.
``wake_at`` is when somebody must look at the clocks again; everyone who sets a
deadline lowers it, and one look (``Forwarder``'s) raises it again.
"""

from __future__ import annotations

import math
from typing import Any

from _udp2tls.stream import Stream, TcpClient

# selectors.EVENT_READ and EVENT_WRITE; a test compares them.
READ, WRITE = 1, 2

# A complaint that has not changed is repeated after this many seconds.
REPEAT = 30.0

COUNTERS = (
    "queries", "answers", "servfail", "dropped", "refused", "unsendable",
    "tcp_clients", "connections", "failed_connections", "resent", "fresh_starts",
)  # fmt: skip


class Loop:
    """See the file's docstring. Times are monotonic seconds."""

    def __init__(self, selector: Any, now: float) -> None:
        self.selector = selector
        self.now = now
        self.wake_at = 0.0
        self.turns = 0
        self.dirty: list[TcpClient] = []  # those with answers to write, at the end of the turn
        self.counts = dict.fromkeys(COUNTERS, 0)
        self._said: dict[object, tuple[str, float]] = {}

    def wake_by(self, deadline: float) -> None:
        if deadline < self.wake_at:
            self.wake_at = deadline

    def look_soon(self) -> None:
        """Something changed: look at all clocks at the end of this turn, or in the next."""
        self.wake_at = 0.0

    def want(self, stream: Stream, events: int) -> None:
        """Wait for READ, WRITE, both, or nothing on a stream."""
        if events == stream.events:
            return
        if not stream.events:
            self.selector.register(stream.sock, events, stream.handler)
        elif events:
            self.selector.modify(stream.sock, events, stream.handler)
        else:
            self.selector.unregister(stream.sock)
        stream.events = events

    def news(self, about: object, reason: str) -> bool:
        """True when ``reason`` is worth a log line: new, or not said for a while."""
        said, when = self._said.get(about, ("", -math.inf))
        if said == reason and self.now < when + REPEAT:
            return False
        self._said[about] = (reason, self.now)
        return True
