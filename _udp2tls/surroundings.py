"""Whether the machine slept or its network changed, as far as can be told without watching.

Asked only when it matters: before a query is written to a connection that was idle, and
when one on which queries wait has gone quiet. So it costs nothing while nothing happens.
Clocks and routes are given; nothing here reads one by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from _udp2tls.config import Endpoint

if TYPE_CHECKING:
    from _udp2tls.link import Link

# The wall clock goes on while a machine sleeps, the monotonic one (on Linux and macOS)
# does not. Clocks that are set by less than this are of no interest.
JUMP = 2.0

# The loop woke so much later than it wanted: the process was stopped, or the machine slept
# (where the monotonic clock goes on).
LATE = 1.0


class Surroundings:
    """``wall`` gives seconds of wall-clock time, ``route`` this machine's address towards another ("": none)."""

    def __init__(self, wall: Callable[[], float], route: Callable[[Endpoint], str]) -> None:
        self.wall = wall
        self._route = route

    def note(self, link: Link, now: float) -> None:
        """Remember how things are at the opening of a link."""
        link.drift = self.wall() - now
        link.local = self._route(link.address)

    def changed(self, link: Link, now: float) -> str:
        """Return what has changed since the link was opened or this was last asked of it, "" when nothing has."""
        drift = self.wall() - now
        jump, link.drift = abs(drift - link.drift), drift
        if jump > JUMP:
            return f"the clock jumped by {jump:.0f} s: the machine was asleep, or the time was set"
        local = self._route(link.address)
        if link.local and local != link.local:
            return f"this machine's address towards {link.address.host} was {link.local}, and is {local or 'none'} now"
        return ""
