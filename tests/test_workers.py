"""Several processes on one port: when it can be, the sockets of each, and one as ever."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import udp2tls
from _udp2tls import cli, daemon, workers
from _udp2tls.config import BindError, Config, ConfigError, Endpoint, parse_upstream
from _udp2tls.workers import parse

CONFIG = Config(upstreams=(parse_upstream("tls://192.0.2.1"),), listen=(Endpoint("127.0.0.1", 0),))
needs_workers = pytest.mark.skipif(not workers.available(), reason="one port cannot have several processes here")


@needs_workers
def test_every_worker_has_sockets_of_its_own_on_the_one_port() -> None:
    sets = workers.bind([CONFIG], 3)
    try:
        ports = {sock.getsockname()[1] for one in sets for pair in one.values() for sock in pair}
        assert [list(one) for one in sets] == [[CONFIG.listen[0]]] * 3
        assert len(ports) == 1
        taken = Config(upstreams=CONFIG.upstreams, listen=(Endpoint("127.0.0.1", ports.pop()),))
        with pytest.raises(BindError, match="another program holds the port"):
            workers.bind([taken], 2)
    finally:
        for one in sets:
            workers._close(one.values())


@needs_workers
def test_sockets_from_systemd_cannot_be_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    two = Config(upstreams=CONFIG.upstreams, workers=2)
    with pytest.raises(ConfigError, match="LISTEN_FDS"):
        workers.serve(None, [two], list)


def test_one_worker_is_the_program_as_it_always_was(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Any] = []

    def run(forwarder: Any, about: object, **more: Any) -> int:
        served.append((forwarder, more))
        return 7

    monkeypatch.setattr(daemon, "serve", run)

    class Forwarder:
        notify = print

        def __init__(self, *configs: Config) -> None:
            self.configs = configs

    assert workers.serve(Forwarder, [CONFIG], list) == 7
    assert served[0][0].configs == (CONFIG,)
    assert served[0][1] == {"reread": list, "notify": print}


@pytest.mark.parametrize("text", ["0", "65", "-1", "two", "", "1.5", "²", "9999"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a number from 1 to 64"):
        parse(text)


@needs_workers
def test_a_number_is_read_and_said() -> None:
    assert [parse(text) for text in ("1", "2", "64")] == [1, 2, 64]
    settings = cli.read(cli.parser().parse_args(["--workers", "4", "-u", "tls://192.0.2.1"]), {})
    assert settings.workers == 4
    assert "workers   4 processes on each port" in cli.check(settings)


@needs_workers
def test_a_stunnel_conf_can_have_workers_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "stunnel.conf"
    file.write_text("[dns]\nclient = yes\naccept = 127.0.0.1:5353\nconnect = 127.0.0.1:853\n")
    assert udp2tls.main(["--check", "--workers", "3", str(file)]) == 0
    assert "workers   3 processes on each port" in capsys.readouterr().out


def test_the_demo_is_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert udp2tls.main(["--demo", "--workers", "2"]) == 2
    assert "--workers does not go with --demo" in capsys.readouterr().err


def test_where_it_cannot_be_it_is_refused_and_one_is_always_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "available", lambda: False)
    assert parse("1") == 1
    with pytest.raises(ConfigError, match="SO_REUSEPORT"):
        parse("2")
