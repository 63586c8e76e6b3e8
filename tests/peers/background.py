"""A peer that runs beside the test, in a thread with an event loop of its own.

Whoever derives from ``Background`` opens its sockets in ``open`` and closes them in ``close``;
both run in the loop, as does whatever is given to ``run``. Attributes may be read and set
from the test's thread while it serves: they count from the next packet on.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import random
import socket
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from tests.peers import programs

Address = tuple[str, int]
Receive = Callable[[bytes, Address], None]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
T = TypeVar("T")


class Background(abc.ABC):
    """Serves while the ``with`` block runs."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, seed: int = 1) -> None:
        self.host = host
        self.port = port or programs.free_port()
        self.random = random.Random(seed)
        self.loop = asyncio.new_event_loop()
        self.tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.run(self.open())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self.close())
        self.run(self._cancel())
        self._end()

    @abc.abstractmethod
    async def open(self) -> None:
        """Begin to listen."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Stop."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it in the loop, and wait until it is done."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it in the loop, of which this must be the thread, and go on."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _cancel(self) -> None:
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.sleep(0.001)  # for transports that close in the next turn

    def _end(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


class Datagrams(asyncio.DatagramProtocol):
    """A UDP socket that calls ``receive`` with every datagram and whom it came from."""

    def __init__(self, receive: Receive) -> None:
        self.transport: asyncio.DatagramTransport
        self._receive = receive

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._receive(data, addr[:2])

    @classmethod
    async def bound(cls, address: Address, receive: Receive) -> Datagrams:
        """Return one that listens at ``address``."""
        return await cls._made(receive, address, None)

    @classmethod
    async def connected(cls, target: Address, receive: Receive, source: str = "") -> Datagrams:
        """Return one that talks with ``target`` alone, from the address ``source`` if that is of its family."""
        fits = source and (":" in source) == (":" in target[0])
        return await cls._made(receive, (source, 0) if fits else None, target)

    @classmethod
    async def _made(cls, receive: Receive, local: Address | None, remote: Address | None) -> Datagrams:
        loop = asyncio.get_running_loop()
        transport, made = await loop.create_datagram_endpoint(lambda: cls(receive), local, remote)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        return made


class Streams:
    """A TCP port. ``serve`` is called for every connection, and has it until it returns."""

    def __init__(self, owner: Background, serve: Serve) -> None:
        self._owner, self._serve = owner, serve
        self._server: asyncio.Server | None = None
        self.writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, self._owner.host, self._owner.port, backlog=256)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._owner.begin(self._run(reader, writer))

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the peer is gone
        finally:
            self.writers.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def close(self) -> None:
        """Close the port, and reset its connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.sleep(0)


async def read_frame(reader: asyncio.StreamReader) -> bytes:
    """Return one message of a stream. Raises IncompleteReadError at its end."""
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
