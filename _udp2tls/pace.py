"""Noticing that a server works on one query at a time, from how it answers when nothing is wrong.

Owns the run of answers at hand: each came alone, to the query that was the oldest, some time
after the one before. One such answer means nothing; a run of them to queries that were asked
much closer together than they are answered is the pace of one worker. A server that works on
all at once gives those answers together, or in the order in which it finds them.

Nothing is read into the answers of a server far away: a slow line spaces them, too.
Times are monotonic seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _udp2tls.pending import Query

# By chance eight answers come in the order of their questions once in 40,000 times.
RUN = 8

# Answers closer together come from a server that is merely busy, or from a busy machine here.
GAP = 0.001

# They were asked in a fraction of the time in which they are answered; in a steady flow they would not be.
SPREAD = 4

# The longest round trip from which a pace is believed: the same house.
NEAR = 0.005


class Pace:
    """See the file's docstring; one for each connection."""

    __slots__ = ("_asked", "_heard", "_next", "_run")

    def __init__(self) -> None:
        self._next: Query | None = None  # whose turn it is, if there is one worker
        self._run = 0
        self._asked = 0.0  # when the query before the run was asked
        self._heard = 0.0  # when that was answered

    def note(self, answered: Query, oldest: Query | None, quiet: float, now: float) -> bool:
        """Note an answer that came alone, ``quiet`` seconds after the one before; True when there is one worker.

        ``oldest`` is the query that has waited longest now, on the same connection.
        """
        if quiet >= GAP and answered is self._next:
            self._run += 1
        else:
            self._run = 0
        proven = self._run == RUN and now - self._heard > SPREAD * (answered.asked - self._asked)
        if self._run in (0, RUN):
            self._run, self._asked, self._heard = 0, answered.asked, now
        self._next = oldest
        return proven
