"""What a renewed list changes in what runs: other upstreams, by the same way as on SIGHUP.

Owns the connection between a Forwarder and ``refresh``. When a list has come, its thread
makes the configurations anew, and their upstreams (reading a thousand entries, or the system's
authorities, would keep the loop for tens of milliseconds); only where a configuration differs
from the one that runs is the loop handed the change.
Imported only by programs with sources; ``download`` and what it needs, by threads that download.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from _udp2tls import log, refresh, upstream
from _udp2tls.config import Config, ConfigError
from _udp2tls.process import ProcessError
from _udp2tls.refresh import Get, Refresh

# Configurations, and the upstreams of each; none where they are still to be built.
Made = tuple[Sequence[Config], Sequence[Any]]


class Renewal:
    """Keeps the sources of a Forwarder's configurations new.

    ``reload`` runs what it is given, in the loop, and says so; it calls ``take`` then.
    """

    def __init__(self, forwarder: Any, reload: Callable[[Callable[[], Made]], None], *, downloads: bool = True) -> None:
        self._forwarder, self._reload = forwarder, reload
        self._refresh = Refresh(self._getter, forwarder.do, forwarder.wall, self._changed, downloads=downloads)

    def take(self) -> None:
        """Look after the sources of what runs now; in the loop."""
        self._refresh.take([source for config in self._running() for source in config.sources])
        self._forwarder.chore = self._refresh.look

    def _running(self) -> list[Config]:
        return [service.config for service in self._forwarder.services]

    def _getter(self) -> Get:
        from _udp2tls import download, inquiry

        forwarder, config = self._forwarder, self._forwarder.services[0].config
        asking = inquiry.Inquiry(
            lambda: forwarder.services[0], forwarder.do, lambda host: forwarder.find_addresses(config, host)
        )  # fmt: skip
        return download.Downloader(asking.find, download.context(config), forwarder.clock).get

    def _changed(self) -> None:
        """A list has come; in its thread."""
        before = self._running()
        try:
            after = _renewed(before)
            if after == before:
                return
            made = after, [upstream.build(config, self._forwarder.wall) for config in after]
        except ConfigError as error:
            log.not_reloaded(str(error))
            return
        self._forwarder.do(partial(self._reload, lambda: self._current(before, made)))

    def _current(self, before: list[Config], made: Made) -> Made:
        """Return what to run, in the loop; it is made again if SIGHUP came between."""
        now = self._running()
        if len(now) == len(before) and all(one is other for one, other in zip(now, before)):
            return made
        return _renewed(now), ()


def first(sources: Sequence[Any], config: Config, forwarder_type: Any) -> list[str]:
    """Download the lists without which nothing can run yet; return why not. Blocks.

    ``config`` says whom to trust, and who knows names: the bootstrap resolvers, or the system's.
    """
    from _udp2tls import download

    get = download.Downloader(
        lambda host: forwarder_type.find_addresses(config, host), download.context(config), forwarder_type.clock
    ).get
    reasons = [
        (source.name, refresh.renew(source, get, forwarder_type.wall))
        for source in sources if source.urls and source.listing is None
    ]  # fmt: skip
    return [f"source {name}: {reason}" for name, reason in reasons if reason]


def first_start(
    nothing: ConfigError, config: Config, forwarder_type: Any, read: Callable[[], Config]
) -> Config:
    """Download the first lists and read the configuration again: ``nothing`` was what it said without them. Blocks.

    Raises ProcessError, with the reasons, when it still says so: the configuration may be
    good, and the network is not there yet.
    """
    sources = getattr(nothing, "sources", ())
    log.setup(config.log_level)
    log.note("no list of servers is here yet: downloading, once")
    reasons = first(sources, config, forwarder_type)
    # What could not be stored is not there for ``read``.
    reasons += [note for source in sources if source.listing for note in source.listing.notes if "not stored" in note]
    try:
        return read()
    except ConfigError as error:
        if not reasons or not hasattr(error, "sources"):
            raise
        why = "".join(f"\n  {reason}" for reason in reasons)
        raise ProcessError(f"there is no list of servers, and none could be had:{why}") from error


def _renewed(configs: Sequence[Config]) -> list[Config]:
    return [config.renewed(config) if config.renewed else config for config in configs]
