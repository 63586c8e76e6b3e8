"""Running until told to stop: the order at the start, and what each signal asks of the loop."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from _udp2tls import daemon, log, process
from _udp2tls.clients import TCP_CLIENTS
from _udp2tls.config import BindError, Config, ConfigError, Endpoint, parse_upstream
from _udp2tls.process import Process

ROOT = Path(__file__).parent.parent
HERE = Endpoint("127.0.0.1", 53)
CONFIG = Config(upstreams=(parse_upstream("tls://192.0.2.1"),))


class Fake:
    """A Forwarder that notes what is asked of it."""

    def __init__(self) -> None:
        self.services: list[Any] = []
        self.did: list[object] = []
        self.wake_socket, self._other = socket.socketpair()
        self.wake_socket.setblocking(False)
        self.on_run: Callable[[], None] = lambda: None
        self.reload_error: Exception | None = None

    def listen(self, *, inherit: bool = False) -> list[Endpoint]:
        assert inherit
        self.did.append("listen")
        return [HERE]

    def run(self) -> None:
        self.did.append("run")
        self.on_run()

    def stop(self, reason: str) -> None:
        self.did.append(("stop", reason))

    def resume(self, reason: str) -> None:
        self.did.append("resume")

    def do(self, wish: Callable[[], None]) -> None:
        wish()

    def statistics(self) -> dict[str, Any]:
        self.did.append("statistics")
        return {"queries": 1, "upstreams": {}}

    def reload(self, *configs: Config, upstreams: Sequence[Any] = ()) -> list[Endpoint]:
        self.did.append(("reload", configs))
        if self.reload_error:
            raise self.reload_error
        return [HERE]


@pytest.fixture
def fake() -> Iterator[Fake]:
    kept = {number: signal.getsignal(number) for number in signal.valid_signals() if number not in (9, 19)}
    thresholds = gc.get_threshold()
    one = Fake()
    yield one
    for number, handler in kept.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    one.wake_socket.close()
    one._other.close()


def test_rights_are_given_up_after_binding_and_before_serving(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(process, "give_up_rights", lambda about: fake.did.append("give up rights"))
    about = Process(pid=str(tmp_path / "pid"), setuid="nobody")
    fake.on_run = lambda: fake.did.append((tmp_path / "pid").exists())
    status = daemon.serve(fake, about, ready=lambda first: fake.did.append(first), notify=fake.did.append)
    assert status == 0
    assert fake.did == ["listen", "give up rights", HERE, "READY=1", "run", True]
    assert not (tmp_path / "pid").exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_signals_to_stop_stop(fake: Fake, name: str) -> None:
    fake.on_run = lambda: signal.raise_signal(getattr(signal, name))
    daemon.serve(fake, notify=fake.did.append)
    assert fake.did[-2:] == ["STOPPING=1", ("stop", name)]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signals here")
def test_sighup_reads_anew_and_a_bad_configuration_changes_nothing(
    fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    answers: list[Any] = [[CONFIG], ConfigError("unknown name", where="udp2tls.toml:3"), [CONFIG]]

    def reread() -> list[Config]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    def run() -> None:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        fake.reload_error = BindError(HERE, "UDP", OSError(98, "Address already in use"))
        signal.raise_signal(signal.SIGHUP)

    fake.on_run = run
    with caplog.at_level(logging.INFO, "udp2tls"):
        daemon.serve(fake, reread=reread)
    assert [one for one in fake.did if isinstance(one, tuple)] == [("reload", (CONFIG,))] * 2
    assert "was read anew" in caplog.text
    assert "udp2tls.toml:3: unknown name" in caplog.text
    assert "Address already in use" in caplog.text


@pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="no such signals here")
def test_the_other_signals_report_reopen_and_distrust(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "reopen", lambda: fake.did.append("reopen"))

    def run() -> None:
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT):
            signal.raise_signal(number)

    fake.on_run = run
    daemon.serve(fake)
    assert fake.did[-3:] == ["reopen", "statistics", "resume"]


def services(*shapes: tuple[int, int]) -> list[Any]:
    """Return services with so many addresses and upstreams each."""
    spec = parse_upstream("tls://192.0.2.1")
    return [
        SimpleNamespace(
            config=Config(upstreams=(spec,) * upstreams, listen=(HERE,) * listen),
            clients=SimpleNamespace(limit=0),
            delivery=SimpleNamespace(upstreams=[]),
        )
        for listen, upstreams in shapes
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("shapes", "each"), [([(2, 1)], 466), ([(4, 20)], 272), ([(2, 1), (2, 1)], 226), ([(0, 47)], 10)]
)
def test_where_select_has_its_limit_the_clients_get_what_is_left(shapes: list[tuple[int, int]], each: int) -> None:
    assert daemon._share_of_select(services(*shapes)) == min(each, TCP_CLIENTS)
    taken = sum(2 * listen + 10 * upstreams for listen, upstreams in shapes)
    assert taken + each * len(shapes) < 512


def test_a_configuration_too_large_for_select_is_refused_before_anything_is_bound(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.services = services((40, 20), (40, 25))
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigError, match=r"80 listening addresses and 45 upstreams(.|\n)*512(.|\n)*several udp2tls"):
        daemon.serve(fake)
    assert fake.did == []
    fake.services = services((2, 1), (2, 1))
    daemon.serve(fake)
    assert [service.clients.limit for service in fake.services] == [226, 226]


@pytest.mark.skipif(not hasattr(signal, "SIGBREAK"), reason="Windows only: SIGBREAK")
def test_ctrl_break_stops(fake: Fake) -> None:
    fake.on_run = lambda: signal.raise_signal(signal.SIGBREAK)  # type: ignore[attr-defined]
    daemon.serve(fake)
    assert fake.did[-1] == ("stop", "SIGBREAK")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signals here")
def test_lists_are_looked_after_from_the_start_and_after_sighup(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Renewal:
        def __init__(self, forwarder: Any, reload: Callable[..., None], *, downloads: bool) -> None:
            self.downloads, self.reload, self.taken = downloads, reload, 0
            made.append(self)

        def take(self) -> None:
            self.taken += 1

    monkeypatch.setitem(sys.modules, "_udp2tls.renewal", SimpleNamespace(Renewal=Renewal))
    monkeypatch.setattr("_udp2tls.renewal", SimpleNamespace(Renewal=Renewal), raising=False)
    with_list = replace(CONFIG, sources=("a source",))

    def run() -> None:
        assert made == [], "who has no lists does without"
        fake.services = services((1, 1))
        fake.services[0].config = with_list
        signal.raise_signal(signal.SIGHUP)
        assert [one.taken for one in made] == [1]
        made[0].reload(lambda: ([with_list], ()))
        fake.services[0].config = CONFIG
        signal.raise_signal(signal.SIGHUP)
        assert [one.taken for one in made] == [3], "without lists too: there are none to look after any more"

    fake.on_run = run
    daemon.serve(fake, reread=lambda: [CONFIG], downloads=False)
    assert [one for one in fake.did if isinstance(one, tuple)][1] == ("reload", (with_list,))
    assert made[0].downloads is False


def test_who_has_no_lists_loads_nothing_that_downloads() -> None:
    program = (
        "import sys, udp2tls; udp2tls.Forwarder(udp2tls.Config((udp2tls.cli.config.parse_upstream('tls://192.0.2.1'),)))"
        "; print([name for name in sys.modules if name.startswith(('http', 'email')) or name.rpartition('.')[2] in "
        "('download', 'refresh', 'inquiry', 'renewal', 'sources', 'minisign', 'lists')])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout == "[]\n"
