"""One function per event. Everything the program says, it says through here.

The logger is "udp2tls"; importing configures nothing, ``setup`` does. Names of
queries and addresses of clients appear only in ``query`` and ``answer``, which
``--log-queries`` switches on.
"""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

from _udp2tls import wire
from _udp2tls.link import Link
from _udp2tls.upstream import Upstream

_log = logging.getLogger("udp2tls")

LEVELS = ("debug", "info", "warning", "error")
_TIME = "%Y-%m-%dT%H:%M:%S"


class _Nowhere(io.TextIOBase):
    """Where pythonw's output goes."""

    def write(self, text: str, /) -> int:
        return len(text)


def mend_streams() -> None:
    """Let standard output and error take whatever is said: under Windows' pythonw there are
    none, and what a code page has no character for must not end the program."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _Nowhere())
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def setup(level: str, path: str = "", *, overwrite: bool = False) -> None:
    """Write to standard error or to the end of a file, one line an event; raises OSError."""
    handler: logging.Handler
    if path:
        handler = logging.FileHandler(path, "w" if overwrite else "a", encoding="utf-8", errors="backslashreplace")
    else:
        mend_streams()
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", _TIME))
    for old in _log.handlers:
        old.close()
    _log.handlers[:] = [handler]
    _log.propagate = False
    _log.setLevel(level.upper())


def reopen() -> None:
    """Open the log file anew: whoever rotates logs has moved the old one away."""
    for handler in _log.handlers:
        if isinstance(handler, logging.FileHandler):
            try:
                fresh = open(handler.baseFilename, "a", encoding=handler.encoding)  # noqa: SIM115
            except OSError as error:
                _log.error("%s cannot be opened anew, the old file is written on: %s", handler.baseFilename,
                           error.strerror)  # fmt: skip
                return
            old = handler.setStream(fresh)
            if old is not None:
                old.close()
    _log.info("the log file is open anew")


def warn(text: str) -> None:
    _log.warning("%s", text)


def reloaded() -> None:
    _log.info("the configuration was read anew")


def not_reloaded(reason: str) -> None:
    _log.error("the configuration as it is now cannot be used, the old one goes on: %s", reason)


def note(text: str) -> None:
    _log.info("%s", text)


def source_renewed(name: str, entries: int, age: float | None, notes: tuple[str, ...]) -> None:
    when = "" if age is None else f", signed {max(0.0, age) / 86400:.1f} days ago"
    level = logging.WARNING if notes else logging.INFO
    _log.log(level, "source %s: a new list, %d entries%s%s", name, entries, when, "".join(f"; {one}" for one in notes))


def source_not_renewed(name: str, reason: str, *, has_one: bool) -> None:
    _log.warning("source %s: %s: %s", name, "not renewed, the list that is here is used on" if has_one
                 else "there is no list yet", reason)  # fmt: skip


def listening(endpoint: object) -> None:
    _log.info("listening on %s, UDP and TCP", endpoint)


def not_listening(endpoint: object, reason: str) -> None:
    _log.warning("not listening on %s: %s", endpoint, reason)


def forwarding(upstream: Upstream, rank: int, service: str = "") -> None:
    spec = upstream.spec
    if spec.key:
        _log.info("%supstream %d: %s", f"[{service}] " if service else "", rank, spec)
        return
    pins = f", {len(upstream.session.pins)} pin(s)" if upstream.session.pins else ""
    pins += f", {len(spec.hashes)} hash(es)" if spec.hashes else ""
    whom = upstream.session.requirement or f"certificate must be for {spec.name}"
    _log.info("%supstream %d: %s, %s%s", f"[{service}] " if service else "", rank, spec, whom, pins)


def connecting(link: Link) -> None:
    _log.debug("connecting to %s at %s", link.upstream, link.address)


def connected(link: Link, now: float) -> None:
    if link.upstream.timed:
        _log.info("connected to %s by way of %s: ready after %.0f ms", link.upstream, link.address,
                  (now - link.started) * 1000)  # fmt: skip
        return
    about: dict[str, str] = getattr(link.codec, "description", {})
    _log.info(
        "connected to %s at %s: %s, certificate for %s until %s, %s, handshake %.0f ms",
        link.upstream, link.address, about.get("version", "no TLS"), about.get("name", "?"),
        about.get("expires", "?"), about.get("resumed", "?"), (now - link.started) * 1000,
    )  # fmt: skip


def news(upstream: Upstream, text: str) -> None:
    _log.info("%s: %s", upstream.spec, text)


def connection_failed(link: Link, reason: str) -> None:
    _log.warning("cannot use %s at %s: %s", link.upstream, link.address, reason)


def connection_ended(link: Link, reason: str, now: float, waiting: int, *, by_peer: bool) -> None:
    level = logging.WARNING if waiting else logging.INFO
    again = f"; {waiting} queries will be sent again" if waiting else ""
    _log.log(
        level, "connection to %s at %s (%s) ended by %s after %.1f s, %d queries, %d answers: %s%s",
        link.upstream, link.address, "resumed" if link.resumed else "new", "the upstream" if by_peer else "us",
        now - link.opened, link.sent, link.answered, reason, again,
    )  # fmt: skip


def doubted(link: Link, now: float) -> None:
    _log.info(
        "connection to %s at %s is silent for %.2f s with %d queries waiting; trying another beside it",
        link.upstream, link.address, now - link.quiet_since, link.inflight,
    )  # fmt: skip


def one_at_a_time(link: Link) -> None:
    _log.info("%s at %s works on one query at a time; from now on several connections share them",
              link.upstream, link.address)  # fmt: skip


def returned(link: Link) -> None:
    _log.info("%s answers again; queries go there", link.upstream)


def starting_over(reason: str, connections: int) -> None:
    _log.info("%s; %d connections are closed and made anew", reason, connections)


def name_found(upstream: Upstream) -> None:
    _log.info("%s is at %s", upstream, ", ".join(a.host for a in upstream.addresses))


def name_not_found(upstream: Upstream, reason: str) -> None:
    _log.warning("cannot find the address of %s: %s", upstream, reason)


def unanswered(count: int, reason: str) -> None:
    _log.warning("%d queries got SERVFAIL: %s", count, reason)


def query(message: bytes, end: int, address: Any) -> None:
    _log.info("%s > %s, %d bytes", _client(address), _question(message, end), len(message))


def answer(message: bytes, end: int, address: Any) -> None:
    _log.info("%s < %s, rcode %d, %d bytes", _client(address), _question(message, end), message[3] & 15, len(message))


def stopping(reason: str, waiting: int) -> None:
    _log.info("stopping: %s; %d queries waiting get SERVFAIL", reason, waiting)


def stopped() -> None:
    _log.info("stopped")


def supervising(count: int) -> None:
    _log.info("%d workers serve, this process supervises them", count)


def worker(number: int) -> None:
    """Say from now on with each line which worker says it."""
    for handler in _log.handlers:
        handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)s worker {number}: %(message)s", _TIME))


def worker_ended(number: int, pid: int, status: int, pause: float) -> None:
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    _log.warning("worker %d (process %d) %s; started again after %.1f s", number, pid, how, pause)


def counters(counts: dict[str, Any]) -> None:
    """One line for the whole, and one for each upstream."""
    own = {name: count for name, count in counts.items() if isinstance(count, int)}
    for about, table in [("in all", own), *counts["upstreams"].items()]:
        said = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in table.items() if count)
        _log.info("counters, %s: %s", about, said or "nothing happened")


def _client(address: Any) -> str:
    return f"{address[0]} port {address[1]}" if address else "(tcp)"


def _question(message: bytes, end: int) -> str:
    labels = []
    at = wire.HEADER
    while message[at]:
        label = message[at + 1 : at + 1 + message[at]]
        # Hostile names must not break lines or terminals.
        labels.append("".join(chr(c) if 33 <= c < 127 and c != 46 else f"\\{c:03d}" for c in label))
        at += 1 + message[at]
    return ".".join(labels) + f"., type {message[end - 4] << 8 | message[end - 3]}"
