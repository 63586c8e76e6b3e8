"""Which source is downloaded when: one short-lived thread for a source that is due.

Owns the appointments. The loop asks ``look`` now and then, which looks at the clocks and at the
files' times and at most starts threads. A thread gets list and signature from each URL in
turn until the source accepts a pair, then calls ``changed``; what is noted here is noted in
the loop, through ``do``. There is never a second thread for the same file, also when
the configuration was read anew meanwhile and another Source stands for it.

The file may also be replaced by another process: by the one of several workers that downloads,
or by hand. Then it is read again, also by those who download nothing (``downloads`` False).

The threads are daemons, and nobody waits for them at the end: a Source stores its files so
that the old pair or the new one is whole at any moment.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from _udp2tls import lists, log, minisign
from _udp2tls.sources import RETRY, signature_url

# Returns the file at a URL, of at most so many bytes; raises ValueError (DownloadError).
Get = Callable[[str, int], bytes]

# Seconds between two looks; a look costs one os.stat for each source. The longest is for those
# who were told of nothing: clocks are set, and machines sleep.
SHORTEST, LONGEST = 60.0, 600.0

# A file so young may be one of a pair that is being replaced. Seconds.
SETTLED = 5.0

# File times are not as fine as clocks everywhere. Seconds.
GRAIN = 1.0

# Seconds that a thread which computes may keep the interpreter from the loop: Python's own 5 ms would
# come several times to each query while a mirror floods us.
SHARE = 0.0005


@dataclass
class _Course:
    """What is known of one file, whichever Source stands for it."""

    busy: bool = False
    tried: float = -math.inf  # the loop's time of the last download that was begun
    urls: tuple[str, ...] = ()  # of that one
    seen: float = math.nan  # a time of the file at which reading it is of no use
    said: str = ""  # the failure that the log has heard of last


class Refresh:
    """See the file's docstring. ``look`` and ``take`` are called in the loop, ``changed`` in the thread.

    ``getter`` makes, in the thread, what downloads; it may raise ValueError, or ConfigError.
    ``wall`` gives seconds since 1970.
    """

    def __init__(
        self, getter: Callable[[], Get], do: Callable[[Callable[[], None]], None], wall: Callable[[], float],
        changed: Callable[[], None], *, downloads: bool = True,
    ) -> None:  # fmt: skip
        self._getter, self._do, self._wall, self._changed = getter, do, wall, changed
        self._downloads = downloads
        self._sources: dict[str, Any] = {}
        self._courses: dict[str, _Course] = {}
        self._look_at = -math.inf

    def take(self, sources: Sequence[Any]) -> None:
        """Look after these from now on, and after no others."""
        self._sources = {_key(source): source for source in sources}
        busy = {key for key, course in self._courses.items() if course.busy}
        self._courses = {
            key: self._courses.get(key) or _Course() for key in (*self._sources, *sorted(busy - set(self._sources)))
        }
        self._look_at = -math.inf

    def look(self, now: float) -> float:
        """Begin what is due, and return when to be called again. ``now`` is monotonic."""
        if now < self._look_at:
            return self._look_at
        wait, wall = LONGEST, self._wall()
        for key, source in self._sources.items():
            course = self._courses[key]
            if course.busy:
                continue
            due = self._replaced(source, course, wall)
            if due <= 0:
                course.seen = _changed(source.cache_file)
                self._begin(source, course, self._read)
            elif self._downloads and due == math.inf:
                due = source.wait(wall)
                if course.urls == source.urls:
                    due = max(due, course.tried + RETRY - now)
                if due <= 0:
                    course.tried, course.urls = now, source.urls
                    self._begin(source, course, self._renew)
            wait = min(wait, due)
        self._look_at = now + (max(SHORTEST, wait) if self._downloads else SHORTEST)
        return self._look_at

    @staticmethod
    def _replaced(source: Any, course: _Course, wall: float) -> float:
        """Return in how many seconds the file is to be read again; infinity when it is the one that was read."""
        changed = _changed(source.cache_file)
        if math.isnan(changed) or abs(changed - source.stored) <= GRAIN or changed == course.seen:
            return math.inf
        return max(0.0, changed + SETTLED - wall) if changed <= wall else 0.0

    def _begin(self, source: Any, course: _Course, work: Callable[[Any], str]) -> None:
        def run() -> None:
            try:
                reason = work(source)
            except Exception as error:  # whatever it is, the source must not stay busy for ever
                reason = getattr(error, "problem", "") or f"{type(error).__name__}: {error}"
            self._do(partial(self._ended, source, course, reason))

        course.busy = True
        sys.setswitchinterval(SHARE)
        try:
            threading.Thread(target=run, name=f"source {source.name}", daemon=True).start()
        except RuntimeError as error:  # no room for a thread
            self._ended(source, course, str(error))

    def _ended(self, source: Any, course: _Course, reason: str) -> None:
        course.busy = False
        key = _key(source)
        if key not in self._sources:
            self._courses.pop(key, None)
        elif not reason and self._sources[key] is source:  # for another one, which stands for the file now, it is news
            course.seen = _changed(key)  # an old file, if the new list could not be stored
        if reason and reason != course.said:
            log.source_not_renewed(source.name, reason, has_one=source.listing is not None)
        course.said = reason
        self._look_at = -math.inf

    def _renew(self, source: Any) -> str:
        """Download, in the thread; return why not."""
        reason = renew(source, self._getter(), self._wall)
        if not reason:
            self._changed()
        return reason

    def _read(self, source: Any) -> str:
        """Read a file that somebody has replaced, in the thread; return why not."""
        try:
            listing = source.load()
        except ValueError as error:  # SourceError
            return _without_name(error, source)
        tell(source, listing, self._wall())
        self._changed()
        return ""


def renew(source: Any, get: Get, wall: Callable[[], float]) -> str:
    """Download a list from the first URL that has one to accept; return why not. Blocks.

    Also for a program that cannot begin without its first list.
    """
    problems: dict[str, None] = {}
    for url in source.urls:
        try:
            data = get(url, lists.MAX_SIZE)
            signature = get(signature_url(url), minisign.MAX_SIGNATURE)
            listing = source.accept(data, signature, wall())
        except ValueError as error:  # DownloadError, SourceError
            problems[f"{url}: {_without_name(error, source)}"] = None
            continue
        tell(source, listing, wall())
        return ""
    source.failed(wall())
    return "; ".join(problems)


def tell(source: Any, listing: lists.Listing, wall: float) -> None:
    """Say in the log what there is now."""
    age = None if source.signed is None else wall - source.signed
    log.source_renewed(source.name, len(listing.entries), age, listing.notes)


def _key(source: Any) -> str:
    path: str = os.path.abspath(source.cache_file)
    return path


def _changed(path: str) -> float:
    """Return when a file was changed, NaN when there is none."""
    try:
        return os.stat(path).st_mtime
    except (OSError, ValueError):
        return math.nan


def _without_name(error: Exception, source: Any) -> str:
    """Return an error's sentence; the log puts the source's name before it."""
    return str(error).removeprefix(f"source {source.name}: ")
