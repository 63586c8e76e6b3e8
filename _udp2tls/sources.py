"""A source: a signed list of servers, kept in a file and renewed from the network.

Owns ``[sources.NAME]`` with dnscrypt-proxy's names and meaning: the list and its signature on
the disk, which of them to believe, and when they are old enough to ask for new ones. Whoever
downloads (not this room: no network and no clock here) asks ``wait`` when, takes ``urls`` in
turn, and gives each pair to ``accept`` until one is taken, or calls ``failed``. It must never
return an entry out of bytes that have not just been verified, neither from the network nor
from its own file, and never lose the list it has for one it does not.

Two files cannot be replaced at once, so a crash may leave the list of one download beside
the signature of another. New files are first written whole, beside the old ones, as ``.new``:
at every moment the list and the signature of the old pair, or of the new one, are among the
four files, and the signature itself says which belong together.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from urllib.parse import unquote, urlsplit

from _udp2tls import lists, minisign
from _udp2tls.lists import Listing
from _udp2tls.minisign import TrustedComment

HOUR = 3600.0

# Hours. Less is unkind to the servers of the lists, more keeps servers that are gone.
REFRESH_DELAY, SHORTEST_DELAY, LONGEST_DELAY = 72, 24, 168

# Seconds after a download that failed, as dnscrypt-proxy waits.
RETRY = 600.0

SUFFIX = ".minisig"
NEW = ".new"


class SourceError(ValueError):
    """A source that is set up wrongly, or a list that is not to be used: one sentence with its name."""


def signature_url(url: str) -> str:
    """Return where the signature of the list at ``url`` is: beside it, a query staying the query."""
    parts = urlsplit(url)
    return parts._replace(path=parts.path + SUFFIX).geturl()


class Source:
    """One list. ``listing`` is the last one verified, None before ``load`` or ``accept``.

    For one thread at a time: ``load`` and ``accept`` wait for the disk.
    """

    def __init__(
        self, name: str, *, cache_file: str, minisign_key: str, urls: Sequence[str] = (),
        refresh_delay: int = 0, prefix: str = "",
    ) -> None:  # fmt: skip
        """Take the values of ``[sources.NAME]``; raise SourceError.

        ``refresh_delay`` is in hours; out of bounds it is brought within them, and 0 or less
        is the default. Without ``urls`` the file is only read.
        """
        if not cache_file or "\0" in cache_file:
            raise SourceError(f"source {name}: cache_file is missing, or no name of a file")
        try:
            self.key = minisign.PublicKey.parse(minisign_key)
        except ValueError as error:
            raise SourceError(f"source {name}: minisign_key: {error}") from None
        self.name = name
        self.cache_file = cache_file
        self.urls = tuple(urls)
        hours = refresh_delay if refresh_delay > 0 else REFRESH_DELAY
        self.refresh_delay = max(SHORTEST_DELAY, min(hours, LONGEST_DELAY))
        self.prefix = prefix
        # A mirror serves the file under the name it was signed under; the copy here may have another.
        self.files = {_file_of(url, name) for url in self.urls} or {os.path.basename(cache_file)}
        self.listing: Listing | None = None
        self._comment: TrustedComment | None = None
        self._stored = -math.inf  # when the list was downloaded, seconds since 1970
        self._failed = -math.inf

    def load(self) -> Listing:
        """Read the stored pair, verify it, and return what is in it.

        Raise SourceError if there is none, if no list here has its signature, or if it is
        older than the one in use. What was in use stays in use then.
        """
        pair, self.listing, self._comment, self._stored = self._read(self._comment)
        with suppress(OSError):  # a folder that cannot be written to: the pair fits as it is
            self._settle(pair)
        return self.listing

    def accept(self, data: bytes, signature: bytes, now: float) -> Listing:
        """Take a downloaded list and its signature, store them, and return what is in the list.

        ``now`` is in seconds since 1970. Raise SourceError, and keep what is here, unless
        the signature is good, the file the right one, and not older than the one here. That
        it could not be stored is a note of the listing: it is used all the same.
        """
        if self.listing is None:
            with suppress(SourceError):  # what is stored says how old a list may be
                self.load()
        listing, comment = self._judge(data, signature, self._comment)
        try:
            self._store(data, signature, now)
        except (OSError, ValueError) as error:
            listing = replace(listing, notes=(*listing.notes, f"not stored: {_said(error, self.cache_file)}"))
        self.listing, self._comment, self._stored, self._failed = listing, comment, now, -math.inf
        return listing

    def failed(self, now: float) -> None:
        """Note that no URL had a list to accept, at ``now`` in seconds since 1970."""
        self._failed = now

    @property
    def stored(self) -> float:
        """When the list in use was downloaded, in seconds since 1970; minus infinity without one."""
        return self._stored

    @property
    def signed(self) -> int | None:
        """When the list in use was signed, in seconds since 1970, if its signature says so."""
        return self._comment.timestamp if self._comment else None

    def wait(self, now: float) -> float:
        """Return in how many seconds a download is due: 0 for at once, infinity without URLs.

        ``now`` is in seconds since 1970. A clock that was set back makes it due earlier, not later.
        """
        if not self.urls:
            return math.inf
        return max(_left(self.refresh_delay * HOUR, self._stored, now), _left(RETRY, self._failed, now))

    def _judge(self, data: bytes, signature: bytes, before: TrustedComment | None) -> tuple[Listing, TrustedComment]:
        """Verify first: the parser never sees what a stranger wrote."""
        try:
            if len(data) > lists.MAX_SIZE:  # before anything reads all of it
                raise SourceError(f"the list has {len(data)} bytes, and {lists.MAX_SIZE} are the most")
            comment = minisign.verify(self.key, data, signature)
            minisign.check_file(comment, self.files)
            minisign.check_order(comment, before)
            return lists.parse(data, self.prefix), comment
        except ValueError as error:
            raise SourceError(f"source {self.name}: {error}") from None

    def _pairs(self) -> Iterator[tuple[str, str]]:
        """Each list with each signature, the settled pair first."""
        for data in (self.cache_file, self.cache_file + NEW):
            for signature in (self.cache_file + SUFFIX, self.cache_file + SUFFIX + NEW):
                yield data, signature

    def _read(self, before: TrustedComment | None) -> tuple[tuple[str, str], Listing, TrustedComment, float]:
        """Return the pair that fits, what is in it, and when it was stored; raise SourceError."""
        problems: list[SourceError] = []
        for pair in self._pairs():
            try:
                data, stored = _read_file(pair[0], lists.MAX_SIZE)
                signature, _ = _read_file(pair[1], minisign.MAX_SIGNATURE)
                return pair, *self._judge(data, signature, before), stored
            except SourceError as error:
                problems.append(error)
            except (OSError, ValueError) as error:
                problems.append(SourceError(f"source {self.name}: {_said(error, self.cache_file)}"))
        raise problems[0]

    def _settle(self, pair: tuple[str, str]) -> None:
        """Do for the pair that fits what a crash has left undone; raise OSError."""
        unsettled = [path for path in pair if path.endswith(NEW)]
        for path in unsettled:
            os.replace(path, path.removesuffix(NEW))
        if unsettled:
            _sync_folder(self.cache_file)

    def _store(self, data: bytes, signature: bytes, now: float) -> None:
        """Replace the stored pair; raise OSError."""
        with suppress(SourceError):  # one of its files may still be a ".new", and is needed until the end
            self._settle(self._read(None)[0])
        files = ((self.cache_file, data), (self.cache_file + SUFFIX, signature))
        with suppress(OSError, ValueError):
            if all(_read_file(path, len(content))[0] == content for path, content in files):
                os.utime(self.cache_file, (now, now))
                return
        try:
            for path, content in files:
                _write_file(path + NEW, content, now)
            _sync_folder(self.cache_file)
        except OSError:
            for path, _ in files:
                with suppress(OSError):
                    os.unlink(path + NEW)
            raise
        for path, _ in files:
            os.replace(path + NEW, path)
        _sync_folder(self.cache_file)


def _file_of(url: str, name: str) -> str:
    """Return the name of the file at a URL; raise SourceError."""
    try:
        parts = urlsplit(url)
        good = parts.scheme == "https" and parts.hostname
        _ = parts.port
    except ValueError:
        good = None
    file = unquote(parts.path.rpartition("/")[2]) if good else ""
    if not file:
        raise SourceError(f"source {name}: {url!r} is not https://HOST/PATH/FILE")
    return file


def _left(period: float, since: float, now: float) -> float:
    """Return how much of a period is left; nothing, if it began in the future."""
    return max(0.0, period - (now - since)) if now >= since else 0.0


def _read_file(path: str, most: int) -> tuple[bytes, float]:
    """Return what is in a file of at most so many bytes, and when it was changed; raise OSError, ValueError."""
    with open(path, "rb") as file:
        data = file.read(most + 1)
        changed = os.fstat(file.fileno()).st_mtime
    if len(data) > most:
        raise ValueError(f"{path}: more than {most} bytes")
    return data, changed


def _write_file(path: str, content: bytes, now: float) -> None:
    """Write a new file, and return when it is on the disk; raise OSError.

    What is there is removed and not opened: it might be a link that someone else has put there.
    """
    with suppress(FileNotFoundError):
        os.unlink(path)
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.utime(path, (now, now))


def _sync_folder(path: str) -> None:
    """Have the names in a file's folder on the disk; Windows has no way to ask for that."""
    flag: int | None = getattr(os, "O_DIRECTORY", None)
    if flag is None:
        return
    folder = os.open(os.path.dirname(path) or os.curdir, os.O_RDONLY | flag)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _said(error: Exception, path: str) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or path}: {error.strerror or error}"
    return str(error)
