"""The selectors say what the standard ones say, and bear what Windows' select does not."""

from __future__ import annotations

import select
import selectors
import socket

import pytest

from _udp2tls import loop, selector


def test_reading_and_writing_are_called_as_selectors_calls_them() -> None:
    assert (loop.READ, loop.WRITE) == (selectors.EVENT_READ, selectors.EVENT_WRITE)


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="no epoll on this system")
def test_the_own_selector_says_what_the_standard_one_says() -> None:
    both = selector.Epoll(), selectors.DefaultSelector()

    def ready() -> int:
        own, standard = ([(key.data, mask) for key, mask in one.select(0)] for one in both)
        assert own == standard
        return own[0][1] if own else 0

    near, far = socket.socketpair()
    with near, far:
        for one in both:
            one.register(near, selectors.EVENT_READ, "data")
        assert ready() == 0
        far.send(b"x")
        assert ready() == selectors.EVENT_READ
        for one in both:
            one.modify(near, selectors.EVENT_READ | selectors.EVENT_WRITE, "more")
        assert ready() == selectors.EVENT_READ | selectors.EVENT_WRITE
        for one in both:
            one.modify(near, selectors.EVENT_WRITE, "write")
        assert ready() == selectors.EVENT_WRITE
        far.close()
        for events in (selectors.EVENT_READ, selectors.EVENT_WRITE):
            for one in both:
                one.modify(near, events, "hung up")
            assert ready() == events
        for one in both:
            one.unregister(near)
            assert not one.select(0)
            one.close()


def counted(monkeypatch: pytest.MonkeyPatch, room: int) -> list[float | None]:
    """Have the standard select wait not at all, note for how long it should, and bear ``room`` sockets."""
    waits: list[float | None] = []
    standard = selectors.SelectSelector.select

    def select_few(self: selectors.SelectSelector, timeout: float | None = None) -> object:
        waits.append(timeout)
        if len(self.get_map()) > room:
            raise ValueError("too many file descriptors in select()")
        return standard(self, 0)

    monkeypatch.setattr(selectors.SelectSelector, "select", select_few)
    return waits


def test_a_wait_that_is_a_rounding_error_does_not_become_a_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = counted(monkeypatch, 512)
    near, far = socket.socketpair()
    with near, far, selector.Select() as own:
        own.register(near, selectors.EVENT_READ, "data")
        for asked in (1e-9, 0.0009, 0.5, 0.0, -1.0):
            assert own.select(asked) == []
    assert waits == [0.001, 0.001, 0.5, 0.0, -1.0]


def test_more_sockets_than_select_bears_are_served_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch, 5)
    monkeypatch.setattr(selector, "PORTION", 5)
    pairs = [socket.socketpair() for _ in range(12)]
    with selector.Select() as own:
        for number, (near, _) in enumerate(pairs):
            own.register(near, selectors.EVENT_READ | (selectors.EVENT_WRITE if number == 11 else 0), number)
        for number in (0, 7):
            pairs[number][1].send(b"x")
        ready = own.select(0.1)
        assert [(key.data, mask) for key, mask in ready] == [(0, 1), (7, 1), (11, 2)]
        assert [key.fileobj for key, _ in ready] == [pairs[0][0], pairs[7][0], pairs[11][0]]
        monkeypatch.setattr(selector, "PORTION", 6)  # still too many: no reason to end
        assert own.select(0.1) == []
    for pair in pairs:
        for sock in pair:
            sock.close()


def test_where_there_is_only_select_it_is_the_one_made_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll", raising=False)
    monkeypatch.setattr(selectors, "DefaultSelector", selectors.SelectSelector)
    with selector.best_selector() as own:
        assert isinstance(own, selector.Select)


