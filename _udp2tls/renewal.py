"""What a renewed list changes in what runs: other upstreams, by the same way as on SIGHUP.

Owns the connection between a Forwarder and ``refresh``. When a list has come, its thread
makes the configurations anew (``Config.renewed``: reading a list of a thousand entries would keep
the loop), and only where they differ from those that run is the loop handed the change.
Imported only by programs with sources; ``download`` and what it needs, by threads that download.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from _udp2tls import log
from _udp2tls.config import Config, ConfigError
from _udp2tls.refresh import Get, Refresh

Configs = Callable[[], Sequence[Config]]


class Renewal:
    """Keeps the sources of a Forwarder's configurations new.

    ``reload`` runs other configurations, in the loop, and says so; it calls ``take`` then.
    """

    def __init__(self, forwarder: Any, reload: Callable[[Configs], None], *, downloads: bool = True) -> None:
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
        except ConfigError as error:
            log.not_reloaded(str(error))
            return
        if after != before:
            self._forwarder.do(partial(self._reload, lambda: self._current(before, after)))

    def _current(self, before: list[Config], after: list[Config]) -> list[Config]:
        """Return the configurations to run, in the loop; they are made again if SIGHUP came between."""
        now = self._running()
        return after if all(one is other for one, other in zip(now, before)) else _renewed(now)


def _renewed(configs: Sequence[Config]) -> list[Config]:
    return [config.renewed(config) if config.renewed else config for config in configs]
