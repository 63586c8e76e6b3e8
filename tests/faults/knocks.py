"""The connection attempts a loopback port gets, those included that are refused or left without reply.

A server sees only what it accepts; the attempts on a closed port are seen on the wire, by a
raw socket. That needs a privilege: without it there are no figures, and ``Knocks.open`` says
so by returning None.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
import time
from typing import Self

_SO_ATTACH_FILTER = 26
_SYN, _ACK = 2, 16


class Knocks:
    def __init__(self, port: int) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        self._sock.setblocking(False)
        self._filter(port)
        self.times: dict[int, float] = {}  # by the port they come from, for the kernel repeats itself
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock, self._read)

    @classmethod
    def open(cls, port: int) -> Self | None:
        try:
            return cls(port)
        except PermissionError:
            return None

    def close(self) -> None:
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def between(self, begin: float, end: float) -> int:
        return sum(begin <= at < end for at in self.times.values())

    def _filter(self, port: int) -> None:
        """Have the kernel pass on only what goes to ``port``: a busy machine has other traffic."""
        steps = (
            (0xB1, 0, 0, 0),  # x = length of the IP header
            (0x48, 0, 0, 2),  # a = the port it goes to
            (0x15, 0, 1, port),
            (0x06, 0, 0, 0x40000),  # take it
            (0x06, 0, 0, 0),  # leave it
        )
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
        program = struct.pack("HL", len(steps), ctypes.addressof(code))
        self._sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def _read(self) -> None:
        try:
            while True:
                packet = self._sock.recv(65535)
                at = (packet[0] & 15) * 4
                if packet[at + 13] & (_SYN | _ACK) == _SYN:
                    self.times.setdefault(int.from_bytes(packet[at : at + 2], "big"), time.monotonic())
        except BlockingIOError:
            pass
