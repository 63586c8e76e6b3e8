"""Looking up upstreams' names while the loop goes on: one thread for each look-up.

Owns no loop and no clock: what was found is handed back through ``do``, which calls it in
the loop. ``find`` is whoever knows addresses; it blocks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial

from _udp2tls.config import Config
from _udp2tls.service import Service
from _udp2tls.upstream import Upstream

Find = Callable[[Config, str], tuple[list[str], str]]


class Naming:
    """See the file's docstring."""

    def __init__(self, find: Find, do: Callable[[Callable[[], None]], None]) -> None:
        self._find = find
        self._do = do

    def begin(self, service: Service, upstream: Upstream) -> threading.Thread:
        """Look up one upstream's name; its service is told in the loop."""

        def work() -> None:
            hosts, reason = self._find(service.config, upstream.spec.target.host)
            self._do(partial(service.name_found, upstream, hosts, reason))

        thread = threading.Thread(target=work, name=f"look up {upstream}", daemon=True)
        thread.start()
        return thread

    def all(self, services: Sequence[Service], limit: float) -> None:
        """Look up every name at once and wait, at most ``limit`` seconds for each; the rest is told when it comes."""
        threads = [
            self.begin(service, upstream)
            for service in services for upstream in service.delivery.upstreams if not upstream.addresses
        ]  # fmt: skip
        for thread in threads:
            thread.join(limit)
