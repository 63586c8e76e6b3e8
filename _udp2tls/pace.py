"""Noticing that a server works on one query at a time, from how it answers when nothing is wrong.

Owns the run of answers at hand: those that came alone came to the query that was the oldest
then, at a walking pace. One such answer means nothing; a run of them to queries that were
asked much closer together than they are answered is the pace of one worker. A server that
works on all at once gives those answers together, or in the order in which it finds them.

Nothing is read into the answers of a server far away: a slow line spaces them, too.
Times are monotonic seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _udp2tls.pending import Query

# By chance eight answers come in the order of their questions once in 40,000 times.
RUN = 8

# Answers closer together, on the average, come from a server that is merely busy, or from a busy
# machine here. A single one may follow sooner upon one that was held up, but not much sooner.
GAP, LEAST_GAP = 0.001, 0.0002

# They were asked in a fraction of the time in which they are answered; in a steady flow they would not be.
SPREAD = 4

# The longest round trip from which a pace is believed: the same house.
NEAR = 0.005

# With more queries waiting it would take too long to find the oldest after each answer.
MOST = 1000


class Pace:
    """See the file's docstring; one for each connection."""

    __slots__ = ("_answers", "_asked", "_heard", "_next", "_run")

    def __init__(self) -> None:
        self._next: Query | None = None  # whose turn it is, if there is one worker
        self._run = 0  # answers that came alone, each in its turn
        self._answers = 0  # those, and what came together in between
        self._asked = 0.0  # when the query before the run was asked
        self._heard = 0.0  # when that was answered

    def note(self, answered: Query, count: int, oldest: Query | None, now: float) -> bool:
        """Note ``count`` answers that came at once, the last of them to ``answered``; True when there is one worker.

        ``oldest`` is the query that has waited longest now, on the same connection.
        """
        alone = count == 1
        in_turn = self._next is not None and (answered is self._next or not alone)
        self._next = oldest
        proven = False
        if in_turn:
            self._run += alone
            self._answers += count
            if self._run < RUN:
                return False
            took = now - self._heard
            proven = took >= GAP * self._answers and took > SPREAD * (answered.asked - self._asked)
        self._run = self._answers = 0
        self._asked, self._heard = answered.asked, now
        return proven

    def interrupt(self) -> None:
        """Answers came too fast for a run."""
        self._next = None
