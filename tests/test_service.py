"""Several services in one loop, and one taking over from another."""

from __future__ import annotations

from _udp2tls.config import Config, Endpoint, parse_upstream
from _udp2tls.loop import Loop
from _udp2tls.service import Service
from _udp2tls.surroundings import Surroundings
from _udp2tls.upstream import Upstream
from tests.fakes import CLIENT, PlainUpstream, Tcp, TcpListener, Udp, World, answer, query


def second_service(world: World, url: str = "tls://192.0.2.99#two.example") -> tuple[Service, Udp]:
    """Add a service with an upstream and a UDP listener of its own."""
    spec = parse_upstream(url)
    forwarder = world.forwarder
    service = Service(
        Config(upstreams=(spec,), listen=()), forwarder._loop, forwarder._rng, forwarder._surroundings,
        world._open, lambda service, one: None, [PlainUpstream(spec)],
    )  # fmt: skip
    udp = Udp()
    service.clients.listen_udp(udp, guarded=False)
    service.clients.listen_tcp(TcpListener(), guarded=False)
    forwarder.services.append(service)
    return service, udp


def test_each_service_asks_its_own_upstream_and_answers_its_own_clients() -> None:
    world = World()
    _, udp = second_service(world)
    world.ask(query("one.example"))
    udp.inbox.append((query("two.example"), CLIENT))
    world.turns(8)
    sent = {address.host: sock.frames() for address, sock in world.opened}
    assert {host: len(frames) for host, frames in sent.items()} == {"192.0.2.53": 1, "192.0.2.99": 1}
    for address, sock in world.opened:
        sock.feed(*(answer(frame) for frame in sent[address.host]))
    world.turns()
    assert world.replies() == [(answer(query("one.example")), CLIENT)]
    assert udp.sent == [(answer(query("two.example")), CLIENT)]


def test_the_same_question_to_two_services_is_two_questions() -> None:
    world = World()
    _, udp = second_service(world)
    world.ask(query())
    udp.inbox.append((query(), CLIENT))
    world.turns(8)
    assert [len(sock.frames()) for _, sock in world.opened] == [1, 1]


def test_an_outage_of_one_is_not_the_others() -> None:
    world = World()
    service, udp = second_service(world)
    udp.inbox.append((query(size=1232), CLIENT))
    world.turns(8)
    world.link.error = ConnectionResetError(104, "injected")
    world.on_open = lambda address: Tcp(connected=address.host != "192.0.2.99")
    world.turns(8)
    world.ask(query())
    world.turns(8)
    world.link.feed(*(answer(frame) for frame in world.link.frames()))
    world.turns()
    assert world.replies() == [(answer(query()), CLIENT)]
    world.later(4.1)
    ((reply, _),) = udp.sent
    assert reply[3] & 15 == 2
    assert b"192.0.2.99" in reply
    assert len(service.pending) == 0


def test_a_service_that_listens_no_more_still_answers_who_waits() -> None:
    world = World()
    old = world.forwarder.services[0]
    world.ask(query(id=1))
    world.turns()
    old.clients.release()
    assert world.udp not in world.selector.keys
    assert not world.udp.closed
    assert old.needed
    world.ask(query(id=2))
    world.turns()
    world.link.feed(*(answer(frame) for frame in world.link.frames()))
    world.turns()
    assert world.replies() == [(answer(query(id=1)), CLIENT)], "the second waits for whoever listens next"
    assert not old.needed


def test_a_service_with_tcp_clients_is_needed_until_they_leave() -> None:
    world = World()
    client = world.client()
    old = world.forwarder.services[0]
    old.clients.release()
    assert old.needed
    client.ended = True
    world.turns()
    assert not old.needed


def test_closing_a_service_answers_what_waits_and_leaves_the_loop_alone() -> None:
    world = World()
    service, udp = second_service(world)
    udp.inbox.append((query(size=1232), CLIENT))
    world.turns(8)
    world.forwarder.services.remove(service)
    service.clients.release()
    service.close()
    ((reply, _),) = udp.sent
    assert b"stopping" in reply
    world.ask(query())
    world.turns(8)
    world.link.feed(*(answer(frame) for frame in world.link.frames()))
    world.turns()
    assert len(world.replies()) == 1


def test_a_found_name_is_handed_to_the_upstream() -> None:
    spec = parse_upstream("tls://dns.example")
    looked_up: list[Upstream] = []
    world = World()
    service = Service(
        Config(upstreams=(spec,), listen=()), Loop(world.selector, 0.0), world.forwarder._rng,
        Surroundings(lambda: 0.0, lambda address: ""), world._open,
        lambda service, one: looked_up.append(one), [PlainUpstream(spec)],
    )  # fmt: skip
    asked = service.pending.add(query(), (lambda *_: None, None), 0.0)
    assert asked
    service.links.forward([asked])
    service.plan()
    (one,) = looked_up
    service.name_found(one, ["192.0.2.7"], "")
    assert one.addresses == [Endpoint("192.0.2.7", 853)]
