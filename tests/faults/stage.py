"""One scenario's upstreams, forwarder and clients, all gone when the scenario is over."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from tests import authority
from tests.faults import forwarders, recipes, tampering
from tests.faults.client import Clients
from tests.faults.upstream import Upstream
from tests.peers import programs

P = TypeVar("P", bound=contextlib.AbstractContextManager[object])


class Stage:
    def __init__(self, forwarder: str, certs: authority.Authority, folder: Path, *, long: bool = False) -> None:
        """Put ``forwarder`` to the test; ``long`` for the long version of scenarios that have one."""
        self.long = long
        self._name = forwarder
        self._certs = certs
        self._folder = folder
        self._exits = contextlib.ExitStack()
        self._async_exits = contextlib.AsyncExitStack()
        self.forwarder: forwarders.Forwarder
        self.clients: Clients
        self.lag = 0.0  # the longest that this process itself was held up

    async def __aenter__(self) -> Self:
        watch = asyncio.create_task(self._watch())
        self._async_exits.callback(watch.cancel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._exits:
            await self._async_exits.aclose()

    async def _watch(self) -> None:
        while True:
            begin = time.monotonic()
            await asyncio.sleep(0.01)
            self.lag = max(self.lag, time.monotonic() - begin - 0.01)

    def upstream(self, host: str = "127.0.0.1", port: int = 0) -> Upstream:
        return self._exits.enter_context(Upstream(self._certs, host, port))

    def peer(self, one: P) -> P:
        """Begin with a server, relay or way of ``tests.peers``; it ends with the scenario."""
        self._exits.enter_context(one)
        return one

    async def start(
        self, *upstreams: Upstream | str, same: bool = False, udp: int = 1, tcp: int = 0, warm: bool = True
    ) -> Clients:
        """Start the forwarder and its clients; ``warm``: let one query through, so that it has its connection.

        Upstreams are such as ``upstream`` gives, or all of them stamps (sdns://).
        ``same``: the upstreams are an IPv6 and an IPv4 address of one.
        """
        stamps = tuple(one for one in upstreams if isinstance(one, str))
        servers = [one for one in upstreams if isinstance(one, Upstream)]
        addresses = tuple((upstream.host, upstream.port) for upstream in servers)
        bootstrap = 0
        if same:
            resolver = self.upstream()
            resolver.tamper = tampering.addresses_of(*(upstream.host for upstream in servers))
            bootstrap = resolver.port
        plan = recipes.Plan(
            programs.free_port(), addresses, self._certs.ca_file, self._folder, stamps=stamps, bootstrap=bootstrap
        )
        begin = time.monotonic()
        self.forwarder = self._exits.enter_context(forwarders.Forwarder(self._name, plan))
        self.lag = 0.0
        if self._name != "udp2tls":
            await asyncio.sleep(1.0)  # they bind their port before they are ready
        self.clients = await Clients.open(self.forwarder.port, udp, tcp)
        self._async_exits.push_async_callback(self.clients.close)
        if warm:
            warmer = await Clients.open(self.forwarder.port)
            self._async_exits.push_async_callback(warmer.close)
            for _ in range(5):
                if (await warmer.answer_to(patience=2.0)).verdict == "right":
                    break
                if not self.forwarder.alive or time.monotonic() > begin + 12:
                    raise forwarders.DidNotStart(f"{self._name}: {self.forwarder.log[-500:]}")
        return self.clients
