"""Many datagrams in one system call: Linux' recvmmsg and sendmmsg, through ctypes.

Owns the memory that both work in, made once: for each datagram of a batch its bytes, its
address, and where and how long they are. An address stays as the kernel gave it, a sockaddr
in bytes, and goes back to the kernel so. Decides nothing about what it carries.

Python has neither call. What they save is not the way into the kernel so much as what a
datagram costs on it: an address made into a tuple of text and number and back again, a buffer
made large and cut small. For a few datagrams the standard library is faster; see
``bench/test_datagrams.py``.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import struct
import sys
from array import array
from collections.abc import Sequence
from itertools import accumulate

# Datagrams in a batch at most.
MOST = 64

# Bytes for each: a query is never as long, nor an answer longer, for ``edns.udp_size`` allows less.
ROOM_IN, ROOM_OUT = 4096, 1280

# Bytes of the sockaddr of AF_INET and AF_INET6.
_SIZES = {2: 16, 10: 28}

_DONT_WAIT = 0x40  # MSG_DONTWAIT

Address = bytes


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_size_t), ("size", ctypes.c_size_t))


class _Message(ctypes.Structure):  # struct mmsghdr
    _fields_ = (
        ("name", ctypes.c_size_t), ("namelen", ctypes.c_uint), ("iov", ctypes.c_size_t), ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_size_t), ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int),
        # The end of struct msghdr, which its widest member aligns.
        ("_end", ctypes.c_size_t * 0), ("size", ctypes.c_uint),
    )  # fmt: skip


class _Memory:
    """The memory of one direction."""

    def __init__(self, room: int, namelen: int) -> None:
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # each worker's own after a fork
        self.data, self.names = mmap.mmap(-1, MOST * room, private), mmap.mmap(-1, MOST * namelen, private)
        self.start = _address_of(self.data)
        iovecs, messages = (_Iovec * MOST)(), (_Message * MOST)()
        for number, message in enumerate(messages):
            iovecs[number] = _Iovec(self.start + number * room, room)
            message.name, message.namelen = _address_of(self.names) + number * namelen, namelen
            message.iov, message.iovlen = ctypes.addressof(iovecs) + number * ctypes.sizeof(_Iovec), 1
        self.at = ctypes.addressof(messages)
        self.headers = memoryview(messages).cast("B")
        places = memoryview(iovecs).cast("B").cast("L")  # a size_t is a long on Linux
        self.bases, self.sizes = places[::2], places[1::2]


def _address_of(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


class Calls:
    """The two system calls, with memory for sockets of ``family``.

    Raises OSError or AttributeError where there are none.
    """

    def __init__(self, family: int) -> None:
        if sys.platform != "linux" or family not in _SIZES:
            raise OSError(errno.ENOSYS, "not here")
        libc = ctypes.CDLL(None, use_errno=True)
        self._receive, self._send = libc.recvmmsg, libc.sendmmsg
        self._receive.argtypes = (ctypes.c_int, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
        self._send.argtypes = (ctypes.c_int, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int)
        self.namelen = _SIZES[family]
        self._in, self._out = _Memory(ROOM_IN, self.namelen), _Memory(ROOM_OUT, self.namelen)
        self._step, at = ctypes.sizeof(_Message), _Message.size.offset
        self._sizes_in = struct.Struct(f"{at}xI{self._step - at - 4}x").iter_unpack

    def receive(self, fd: int) -> tuple[list[tuple[bytes, Address]], int]:
        """Return what has come, up to ``MOST`` datagrams with their senders, and how many were too long.

        Raises OSError, BlockingIOError when nothing has come.
        """
        memory, step = self._in, self.namelen
        count = self._receive(fd, memory.at, MOST, _DONT_WAIT, None)
        if count < 0:
            raise OSError(ctypes.get_errno(), "recvmmsg")  # of the subclass that belongs to the number
        data, names = memory.data, memory.names[: count * step]
        received = [
            (data[at : at + size], names[name : name + step])
            for (size,), at, name in zip(
                self._sizes_in(memory.headers[: count * self._step]),
                range(0, MOST * ROOM_IN, ROOM_IN), range(0, MOST * step, step),
            )
            if size < ROOM_IN  # else it may have been cut off
        ]  # fmt: skip
        return received, count - len(received)

    def send(self, fd: int, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        """Send each datagram to its address; return how many the kernel did not take: UDP promises nothing.

        None may be longer than ``ROOM_OUT``.
        """
        failed = 0
        for at in range(0, len(datagrams), MOST):
            failed += self._send_batch(fd, datagrams[at : at + MOST])
        return failed

    def _send_batch(self, fd: int, datagrams: Sequence[tuple[bytes, Address]]) -> int:
        memory, count = self._out, len(datagrams)
        contents, addresses = zip(*datagrams)
        content = b"".join(contents)
        memory.data[: len(content)] = content  # raises when that is more than there is room for
        memory.names[: count * self.namelen] = b"".join(addresses)
        sizes = array("L", map(len, contents))
        memory.sizes[:count] = sizes
        memory.bases[:count] = array("L", accumulate(sizes, initial=memory.start))[:count]
        failed = done = 0
        while done < count:
            sent = self._send(fd, memory.at + done * self._step, count - done, _DONT_WAIT)
            if sent <= 0:  # the first of these: no route, a firewall, a full buffer
                failed, sent = failed + 1, 1
            done += sent
        return failed
