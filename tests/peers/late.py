"""A plain DNS server behind dnsdist that answers when the question says: ``q1.n3.d200.late.test.example`` in 200 ms.

Without it dnsdist makes up its answers at once, and so always in order. Answers are as
``asking.is_right`` wants them.
"""

from __future__ import annotations

import asyncio

from tests.peers import asking, scripted
from tests.peers.background import Address, Background, Datagrams, Streams, read_frame

ZONE = "late.test.example"


def delay_of(query: bytes) -> float:
    """Return the seconds that the label dN asks for, N in milliseconds."""
    question, at = asking.question_of(query), 0
    while question and question[at]:
        label = question[at + 1 : at + 1 + question[at]].lower()
        if label[:1] == b"d" and label[1:].isdigit():
            return int(label[1:]) / 1000
        at += 1 + question[at]
    return 0.0


class Late(Background):
    """Answers over UDP and TCP while the ``with`` block runs. ``queries`` are what came."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__(host, port)
        self.queries: list[bytes] = []
        self._front: Datagrams
        self._streams = Streams(self, self._serve)

    async def open(self) -> None:
        self._front = await Datagrams.bound((self.host, self.port), self._take)
        await self._streams.open()

    async def close(self) -> None:
        self._front.transport.close()
        await self._streams.close()

    def _take(self, query: bytes, client: Address) -> None:
        self.queries.append(query)
        self.loop.call_later(delay_of(query), self._front.transport.sendto, scripted.right_answer(query), client)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            query = await read_frame(reader)
            self.queries.append(query)
            self.loop.call_later(delay_of(query), writer.write, asking.framed(scripted.right_answer(query)))
