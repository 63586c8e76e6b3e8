"""What the parts share of a turn."""

from __future__ import annotations

from _udp2tls.framing import Framing
from _udp2tls.loop import READ, REPEAT, WRITE, Loop
from _udp2tls.stream import Stream
from tests.fakes import Selector, Tcp


def test_only_an_earlier_deadline_moves_the_wake_up() -> None:
    loop = Loop(Selector(), 5.0)
    loop.wake_at = 10.0
    loop.wake_by(11.0)
    assert loop.wake_at == 10.0
    loop.wake_by(9.0)
    assert loop.wake_at == 9.0
    loop.look_soon()
    assert loop.wake_at <= loop.now


def test_wanting_events_registers_modifies_and_unregisters() -> None:
    selector = Selector()
    loop = Loop(selector, 0.0)
    sock = Tcp()
    stream = Stream(sock, Framing())
    stream.handler = (lambda about, mask: None, None)
    for events in (READ, READ, READ | WRITE, WRITE, 0, 0, READ):
        loop.want(stream, events)
        assert (selector.keys[sock].events if sock in selector.keys else 0) == events == stream.events


def test_the_same_complaint_is_news_again_only_after_a_while() -> None:
    loop = Loop(Selector(), 0.0)
    assert loop.news("a", "refused")
    assert not loop.news("a", "refused")
    assert loop.news("b", "refused")
    assert loop.news("a", "timed out")
    assert not loop.news("a", "timed out")
    loop.now += REPEAT
    assert loop.news("a", "timed out")
