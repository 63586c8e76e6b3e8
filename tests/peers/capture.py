"""What somebody on the way saw: every packet, when, by which transport, from and to whom.

Relays, proxies and servers of the tests have a ``Capture``. What it is for: a server that
is asked through a relay must never see the client, and a relay must never see what is asked.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tests.peers import asking


@dataclass(frozen=True)
class Packet:
    """``data`` as it was on the wire, without a stream's length before it. ``note``: what was made of it."""

    time: float  # monotonic
    transport: str  # "udp" or "tcp"
    source: str  # the address without the port
    port: int
    data: bytes
    note: str = ""


@dataclass
class Capture:
    """Packets in the order they came in. Thread-safe as long as one thread adds."""

    packets: list[Packet] = field(default_factory=list)

    def add(self, transport: str, source: tuple[str, int], data: bytes, note: str = "") -> None:
        self.packets.append(Packet(time.monotonic(), transport, source[0], source[1], data, note))

    def __len__(self) -> int:
        return len(self.packets)

    def clear(self) -> None:
        self.packets.clear()

    def by(self, transport: str) -> list[Packet]:
        return [packet for packet in list(self.packets) if packet.transport == transport]

    @property
    def sources(self) -> set[str]:
        """Whose packets these are: their addresses."""
        return {packet.source for packet in list(self.packets)}

    @property
    def notes(self) -> list[str]:
        return [packet.note for packet in list(self.packets)]

    @property
    def size(self) -> int:
        """How many bytes it was."""
        return sum(len(packet.data) for packet in list(self.packets))

    def naming(self, name: str) -> list[Packet]:
        """Return the packets that ``name`` can be read in, as DNS writes it or as people do."""
        return [packet for packet in list(self.packets) if names(packet.data, name)]

    def assert_only_from(self, *addresses: str) -> None:
        """Fail unless packets came, and from these addresses alone."""
        assert self.sources == set(addresses), f"packets came from {self.sources or 'nobody'}"

    def assert_silent_about(self, name: str) -> None:
        """Fail if nothing came in, or a packet has the name in it."""
        assert self.packets, "nothing was seen"
        told = self.naming(name)
        assert not told, f"{len(told)} of {len(self.packets)} packets have {name} in plain text: {told[0]}"


def names(data: bytes, name: str) -> bool:
    """True when somebody who reads ``data`` learns ``name``, or any of its labels that says something."""
    folded = data.lower()
    wire = asking.wire_name(name.lower())
    return wire[:-1] in folded or name.lower().rstrip(".").encode() in folded
