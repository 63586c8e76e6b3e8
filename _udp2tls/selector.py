"""What waits for sockets: epoll with a shorter way through it, or select made fit for Windows.

Both are selectors as the standard library has them. They decide nothing, and never wait
for anything but what was registered and the time they are given.
"""

from __future__ import annotations

import select
import selectors
from collections.abc import Mapping
from typing import Any

from _udp2tls.loop import READ, WRITE

# Seconds that a wait on Windows takes at least, and how many sockets it bears for certain.
LEAST_WAIT = 0.001
PORTION = 400


class Epoll(selectors.BaseSelector):
    """The standard library's EpollSelector with a third of its way through ``select``.

    At rest a query is two turns of the loop, and ``select`` was a tenth of their
    instructions. Knows what this file needs: sockets, and no timeout of None.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._readable: dict[int, tuple[selectors.SelectorKey, int]] = {}  # what select mostly returns, made once
        self._map = {READ: select.EPOLLIN, WRITE: select.EPOLLOUT, READ | WRITE: select.EPOLLIN | select.EPOLLOUT}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, fileobj.fileno(), events, data)
        self._epoll.register(key.fd, self._map[events])
        return self._note(key)

    def _note(self, key: selectors.SelectorKey) -> selectors.SelectorKey:
        self._keys[key.fd] = key
        self._readable[key.fd] = (key, READ)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        self._epoll.unregister(fileobj.fileno())
        del self._readable[fileobj.fileno()]
        return self._keys.pop(fileobj.fileno())

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, fileobj.fileno(), events, data)
        self._epoll.modify(key.fd, self._map[events])
        return self._note(key)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready, readable = [], self._readable
        for fd, event in self._epoll.poll(timeout if timeout is None or timeout > 0 else 0, 64):
            if event == 1:  # EPOLLIN alone
                ready.append(readable[fd])
            else:
                key = self._keys[fd]
                ready.append((key, _events(event) & key.events))
        return ready

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def close(self) -> None:
        self._keys.clear()
        self._epoll.close()


def _events(event: int) -> int:
    """Errors and hang-ups are for readers and writers alike, as in ``selectors``."""
    return (READ if event & ~select.EPOLLOUT else 0) | (WRITE if event & ~select.EPOLLIN else 0)


class Select(selectors.SelectSelector):
    """The standard library's, made fit for Windows, which has no other.

    There a clock may stand still for 15.6 ms, so that a timeout can be a mere rounding
    error above 0 again and again: the loop would spin. And a call takes 512 sockets;
    ``daemon`` keeps us below, and should it ever fail, all are served in portions.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and 0 < timeout < LEAST_WAIT:
            timeout = LEAST_WAIT
        try:
            return super().select(timeout)
        except ValueError:  # "too many file descriptors in select()"
            return self._in_portions()

    def _in_portions(self) -> list[tuple[selectors.SelectorKey, int]]:
        keys = list(self.get_map().values())
        ready: list[tuple[selectors.SelectorKey, int]] = []
        for at in range(0, len(keys), PORTION):
            with selectors.SelectSelector() as part:
                try:
                    for key in keys[at : at + PORTION]:
                        part.register(key.fd, key.events, key)
                    ready += [(own.data, mask) for own, mask in part.select(LEAST_WAIT)]
                except ValueError:
                    continue  # these wait until their time is up; the others are served
        return ready


def best_selector() -> selectors.BaseSelector:
    if hasattr(select, "epoll"):
        return Epoll()
    return Select() if issubclass(selectors.DefaultSelector, selectors.SelectSelector) else selectors.DefaultSelector()
