"""Running until told to stop: signals, readiness, the pid file, reading the configuration anew.

Owns the order of things at the start: bind, write the pid file, give up rights, say that
all is ready, serve. Signals only leave word with the loop; what they ask is done there.
"""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from _udp2tls import log, process
from _udp2tls.clients import TCP_CLIENTS
from _udp2tls.config import BindError, Config, ConfigError, Endpoint
from _udp2tls.process import Process
from _udp2tls.system import make_timers_exact

NOTHING = Process()

# Open files that are not TCP clients: listeners, upstreams, log, certificates.
SPARE_FILES = 96

# Windows' select waits for no more sockets; of an upstream there are 8 connections at most, one
# more on trial and one on its way. In reserve: what a configuration that was replaced still has.
SELECT_LIMIT, UPSTREAM_SOCKETS, SPARE_SOCKETS = 512, 10, 32


def serve(
    forwarder: Any, about: Process = NOTHING, *, reread: Callable[[], Sequence[Config]] | None = None,
    ready: Callable[[Endpoint], None] | None = None, notify: Callable[[str], None] = lambda state: None,
    downloads: bool = True,
) -> int:  # fmt: skip
    """Run a Forwarder; return the exit status.

    ``reread`` gives the configuration as it is now, for SIGHUP. ``ready`` is called with the
    first address when all listen, ``notify`` tells a service manager (sd_notify's words).
    ``downloads``: that this process renews lists, and not another that stores them for it.
    Raises BindError, ConfigError and process.ProcessError before anything was served.
    """
    limit = _share_of_select(forwarder.services) if sys.platform == "win32" else _limit_of_clients()
    for service in forwarder.services:
        service.clients.limit = limit
    bound = forwarder.listen(inherit=True)
    _say(forwarder, bound)
    make_timers_exact()  # before other users' rights or a jail stand in its way
    process.write_pid(about)
    process.give_up_rights(about)
    anew = _Anew(forwarder, downloads)
    _handle_signals(forwarder, anew, reread, notify)
    # What is alive now stays alive; the loop itself makes no reference cycles.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    if ready:
        ready(bound[0])
    notify("READY=1")
    try:
        forwarder.run()
    finally:
        signal.set_wakeup_fd(-1)
        process.remove_pid(about)
    return 0


def _say(forwarder: Any, bound: Sequence[Endpoint]) -> None:
    for endpoint in bound:
        log.listening(endpoint)
    for service in forwarder.services:
        ways = {one.spec: one for one in service.delivery.upstreams}  # DNSCrypt has two
        for rank, one in enumerate(ways.values(), 1):
            log.forwarding(one, rank, service.config.name)
        for note in service.config.notes:
            log.note(note)
        for warning in service.config.warnings:
            log.warn(warning)


def _handle_signals(
    forwarder: Any, anew: _Anew, reread: Callable[[], Sequence[Config]] | None, notify: Callable[[str], None]
) -> None:
    def stop(number: int, frame: object) -> None:
        notify("STOPPING=1")
        forwarder.stop(signal.Signals(number).name)

    def resume(number: int, frame: object) -> None:
        forwarder.resume("this process was stopped for a while")

    def report(number: int, frame: object) -> None:
        forwarder.do(lambda: log.counters(forwarder.statistics()))

    def reload(number: int, frame: object) -> None:
        if reread:
            forwarder.do(lambda: anew.reload(lambda: (reread(), ())))

    def reopen(number: int, frame: object) -> None:
        forwarder.do(log.reopen)

    # Without the wake-up socket select would sleep on: always on Windows, and anywhere
    # when the signal comes between the look at the flag and the call.
    signal.set_wakeup_fd(forwarder.wake_socket.fileno(), warn_on_full_buffer=False)
    for names, handler in (
        (("SIGINT", "SIGTERM", "SIGBREAK", "SIGQUIT"), stop), (("SIGCONT",), resume), (("SIGUSR2",), report),
        (("SIGHUP",), reload), (("SIGUSR1",), reopen),
    ):  # fmt: skip
        for name in names:
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), handler)


class _Anew:
    """Runs other configurations: on SIGHUP, and when a list of servers was renewed."""

    def __init__(self, forwarder: Any, downloads: bool) -> None:
        self._forwarder, self._downloads = forwarder, downloads
        self._renewal: Any = None
        self._renew()

    def reload(self, give: Callable[[], tuple[Sequence[Config], Sequence[Any]]]) -> None:
        """Run what this gives: configurations, and if it has built them, the upstreams of each.

        When they cannot be used, what runs goes on.
        """
        try:
            configs, upstreams = give()
            bound = self._forwarder.reload(*configs, upstreams=upstreams)
        except (ConfigError, BindError) as error:
            log.not_reloaded(str(error))
            return
        log.reloaded()
        _say(self._forwarder, bound)
        self._renew()

    def _renew(self) -> None:
        """Have the lists of what runs now renewed. Few have any."""
        if self._renewal is None and any(service.config.sources for service in self._forwarder.services):
            from _udp2tls import renewal

            self._renewal = renewal.Renewal(self._forwarder, self.reload, downloads=self._downloads)
        if self._renewal is not None:
            self._renewal.take()


def _share_of_select(services: Sequence[Any]) -> int:
    """Return how many TCP clients each service may have where select has its limit; raises ConfigError."""
    addresses = sum(len(service.config.listen) for service in services)
    upstreams = sum(len(service.config.upstreams) for service in services)
    left = SELECT_LIMIT - SPARE_SOCKETS - 2 * addresses - UPSTREAM_SOCKETS * upstreams
    if left < len(services):
        raise ConfigError(
            f"{addresses} listening addresses and {upstreams} upstreams leave no room for TCP clients: "
            f"Windows waits for {SELECT_LIMIT} sockets at most",
            remedy=f"an address takes 2 of them, an upstream up to {UPSTREAM_SOCKETS}; "
            "name fewer, or run several udp2tls",
        )
    return min(TCP_CLIENTS, left // max(1, len(services)))


def _limit_of_clients() -> int:
    """Ask the system for more open files, and return how many TCP clients fit."""
    try:
        import resource
    except ImportError:  # Windows
        return TCP_CLIENTS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = TCP_CLIENTS + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(TCP_CLIENTS, soft - SPARE_FILES)) if soft != resource.RLIM_INFINITY else TCP_CLIENTS
