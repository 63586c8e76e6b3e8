"""Fewer wake-ups: how long the loop pauses after each, so that what arrives meanwhile is dealt with at once.

What a query costs at some thousand a second is mostly two wake-ups, one for it and one
for its answer. Network cards have the same trouble and pause between interrupts; so does
the loop, when that saves anything:

- Never when queries are sparse: it begins above ``ENOUGH`` queries a second that do not
  each have the loop to themselves, and the first gap longer than ``GAP`` ends it.
- Never when batches are as large as they can be anyway.
- Never when the askers wait for us. Those who keep a fixed number of queries under way ask
  less when answers take longer; so a pause begins as a trial. When fewer queries come a short
  one is tried, as short as the system can make it: in a crowd it costs nobody anything, for
  who is dealt with in a large batch is dealt with sooner. When fewer come then, too, it is
  called off, for longer each time. Every few seconds the loop does without for a moment, to
  see whether more would come.

It has no clock and never sleeps: ``pause`` says how long the loop shall. Times are seconds.
"""

from __future__ import annotations

import math

from _udp2tls.config import ConfigError

# A query may wait so long, and its answer again; together less than half a millisecond. The other
# is for those who wait for us; with Linux' timer slack it takes some 80 us.
PAUSE, SHORT = 230e-6, 30e-6

# The most that may be asked for, in microseconds.
MOST = 500

# Queries a second: with fewer a pause, and the work before it, seldom sees two, and latency is worth more.
ENOUGH, TOO_FEW = 8000.0, 6000.0

# Nothing came for so long: the rush is over. A turn with all it can read at once takes half of that.
GAP = 0.006

# Between two looks at the rate: some hundred queries, so that chance is some 5 % of it. A trial
# is shorter, for it may be in vain.
WINDOW, TRIAL = 0.05, 0.03

# Queries for each turn of the loop below which each is alone: one turn for it and one for its
# answer; and above which a turn has as many as it reads at once, so that a pause adds nothing.
ALONE, FULL = 0.51, 60.0

# A rate that falls to this share of what it was, or rises by its inverse, is no chance.
FELL = 0.92

# One that rises to more than this from one look to the next has only begun.
STEADY = 1.25

# After a trial that failed: seconds until the next, doubling.
FIRST_REST, LONGEST_REST = 2.0, 64.0

# Seconds between moments without a pause, and their length: askers need a while to find their stride again.
RECHECK, WITHOUT = 10.0, 0.15


def parse(text: str, where: str = "--moderation") -> float | None:
    """Read ``auto`` (None), ``off`` (0.0) or microseconds; return seconds. Raises ConfigError."""
    if text == "auto":
        return None
    if text == "off":
        return 0.0
    if not (text.isascii() and text.isdigit() and int(text[:6]) <= MOST):
        remedy = f"say auto, off, or for how many microseconds the loop shall always pause, 1 to {MOST}"
        raise ConfigError("not a pause", text=text, span=(0, len(text)), where=where, remedy=remedy)
    return int(text) / 1e6


class Moderation:
    """See the file's docstring. ``fixed``: pause always so long (0.0: never), whatever happens; None: decide."""

    def __init__(self, fixed: float | None = None) -> None:
        self.pause = fixed or 0.0
        self.fixed = fixed is not None
        self.look_at = math.inf if self.fixed else 0.0
        self._since = 0.0
        self._queries = self._turns = 0
        self._before = 0.0  # queries a second before the last change, while its effect is awaited
        self._rate = 0.0  # queries a second in the window before
        self._recheck_at = 0.0
        self._retry_at = 0.0
        self._backoff = FIRST_REST
        self._rested_at = 0.0

    def rest(self, now: float, wait: float) -> float:
        """Return how long to sleep after a wake-up at ``now``, with ``wait`` seconds until something is due."""
        if not self.fixed:
            if self._rested_at and now > self._rested_at + GAP:
                self.stop()
                self._retry_at = max(self._retry_at, now + WITHOUT)
                return 0.0
            self._rested_at = now
        return self.pause if wait > self.pause else 0.0

    def look(self, now: float, queries: int, turns: int) -> bool:
        """Decide anew, if it is time; ``queries`` and ``turns`` of the loop count from its start.

        Returns True while a trial runs: then it wants to look again at ``look_at``.
        """
        if now >= self.look_at:
            seconds = now - self._since
            asked, turned = queries - self._queries, turns - self._turns
            self.look_at, self._since = now + WINDOW, now
            self._queries, self._turns = queries, turns
            if seconds > 2 * WITHOUT:
                self.stop()  # the loop slept for most of it
            else:
                self._decide(now, asked / seconds, asked / max(1, turned))
        return self.pause > 0 and self._before > 0

    def _decide(self, now: float, rate: float, batch: float) -> None:
        if self.pause:
            if self.pause > SHORT and (rate < FELL * self._before or batch > FULL):
                self.pause, self.look_at = SHORT, now + TRIAL
            elif rate < FELL * self._before:
                self._fail(now)
            elif rate < TOO_FEW:
                self.stop()
            elif now >= self._recheck_at:
                self.pause, self._before, self.look_at = 0.0, rate, now + WITHOUT
            else:
                self._before, self._backoff = 0.0, FIRST_REST
        elif self._before and self._before < FELL * rate:
            self._fail(now)
        elif rate >= ENOUGH and now >= self._retry_at and ALONE < batch < FULL and rate < STEADY * self._rate:
            self.pause, self._before, self._recheck_at = PAUSE, rate, now + RECHECK
            self.look_at = now + TRIAL
        else:
            self._before = 0.0
        self._rate = rate

    def stop(self) -> None:
        """The rush is over."""
        self.pause = self._before = self._rested_at = 0.0

    def _fail(self, now: float) -> None:
        """They ask faster when they are answered faster."""
        self.stop()
        self._retry_at = now + self._backoff
        self._backoff = min(LONGEST_REST, self._backoff * 2)
