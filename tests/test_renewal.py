"""renewal: a new list changes what runs only where it differs, and SIGHUP is never undone by it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from _udp2tls import inquiry
from _udp2tls.config import Config, ConfigError, Endpoint, UpstreamSpec, parse_upstream
from _udp2tls.process import ProcessError
from _udp2tls.renewal import Made, Renewal, first, first_start
from _udp2tls.sources import Source
from tests.fakes import Clock
from tests.test_sources import NEW, NOW, OLD, URL, names, put, source

WAIT = 5.0


def by_list(config: Config) -> Config:
    """Choose as upstream what each list names: "old" is tls://old.example."""
    found = [name for one in config.sources for name in names(one.listing)]
    return replace(config, upstreams=tuple(parse_upstream(f"tls://{name}.example") for name in found))


class Fake:
    """A Forwarder that notes what it is to run; renewals read files that the test puts there."""

    def __init__(self, *sources: Source, renewed: Callable[[Config], Config] | None = by_list) -> None:
        spec = parse_upstream("tls://old.example")
        config = Config(upstreams=(spec,), listen=(Endpoint("127.0.0.1", 53),), sources=sources, renewed=renewed)
        self.services: list[Any] = [SimpleNamespace(config=config)]
        self.wishes: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.chore: Callable[[float], float] | None = None
        self.clock = Clock()
        self.ran: list[Sequence[Config]] = []
        self.built: list[list[list[UpstreamSpec]]] = []
        self.renewal = Renewal(self, self.reload, downloads=False)
        self.renewal.take()

    def do(self, wish: Callable[[], None]) -> None:
        self.wishes.put(wish)

    def wall(self) -> float:
        return NOW

    def find_addresses(self, config: Config, host: str) -> tuple[list[str], str]:
        return [], f"{host} is not to be found"

    def reload(self, give: Callable[[], Made]) -> None:
        configs, upstreams = give()
        self.ran.append(configs)
        self.built.append([[one.spec for one in some] for some in upstreams])
        self.services = [SimpleNamespace(config=one) for one in self.ran[-1]]
        self.renewal.take()

    def look(self, wishes: int) -> None:
        """Look, and do so many wishes of the threads."""
        assert self.chore
        self.chore(self.clock())
        for _ in range(wishes):
            self.wishes.get(timeout=WAIT)()
        assert self.wishes.empty()

    def hosts(self) -> list[str]:
        return [spec.host for service in self.services for spec in service.config.upstreams]


def place(folder: Path, files: tuple[bytes, bytes], age: float) -> None:
    put(folder, files)
    os.utime(folder / "list.md", (NOW - age, NOW - age))


def read(folder: Path) -> Source:
    place(folder, OLD, 1000)
    one = source(folder)
    one.load()
    return one


def test_a_new_list_changes_the_upstreams(tmp_path: Path) -> None:
    fake = Fake(read(tmp_path))
    place(tmp_path, NEW, 100)
    fake.look(2)
    assert fake.hosts() == ["new.example"]
    assert fake.built == [[list(fake.services[0].config.upstreams)]]
    fake.look(0)
    assert len(fake.ran) == 1


def test_a_list_that_changes_nothing_leaves_every_connection_alone(tmp_path: Path) -> None:
    fake = Fake(read(tmp_path), renewed=lambda config: config)
    place(tmp_path, NEW, 100)
    fake.look(1)
    fake = Fake(read(tmp_path), renewed=None)
    place(tmp_path, NEW, 100)
    fake.look(1)
    assert fake.ran == []


def test_a_list_without_our_servers_leaves_the_old_ones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def nothing(config: Config) -> Config:
        raise ConfigError("there is no server 'old'", where="udp2tls.toml:3")

    fake = Fake(read(tmp_path), renewed=nothing)
    place(tmp_path, NEW, 100)
    with caplog.at_level(logging.INFO, "udp2tls"):
        fake.look(1)
    assert fake.ran == []
    assert "udp2tls.toml:3: there is no server 'old'" in caplog.text


def test_a_sighup_in_between_is_not_undone(tmp_path: Path) -> None:
    fake = Fake(read(tmp_path))
    place(tmp_path, NEW, 100)
    assert fake.chore
    fake.chore(fake.clock())
    wish = fake.wishes.get(timeout=WAIT)
    now = replace(fake.services[0].config, timeout=9.0)
    fake.services = [SimpleNamespace(config=now)]
    wish()
    assert fake.services[0].config.timeout == 9.0
    assert fake.hosts() == ["new.example"]
    assert fake.built == [[]], "what was built is of no use any more"
    fake.wishes.get(timeout=WAIT)()


def test_configurations_are_made_outside_the_loop(tmp_path: Path) -> None:
    made: list[threading.Thread] = []

    def renewed(config: Config) -> Config:
        made.append(threading.current_thread())
        return by_list(config)

    fake = Fake(read(tmp_path), renewed=renewed)
    place(tmp_path, NEW, 100)
    fake.look(2)
    assert len(made) == 1
    assert made[0] is not threading.main_thread()


def test_what_downloads_asks_the_forwarder_for_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inquiry.Inquiry.__init__, "__defaults__", (0.01,))
    fake = Fake(read(tmp_path))
    get = fake.renewal._getter()
    with pytest.raises(ValueError, match=r"cannot find the address of mirror\.example: mirror\.example is not to be"):
        get("https://mirror.example/list.md", 100)
    assert fake.wishes.qsize() == 2, "the loop was asked for both families first"


def test_the_first_lists_are_had_before_anything_runs_and_only_those_that_are_missing(tmp_path: Path) -> None:
    asked: list[str] = []

    class Type:
        clock = wall = staticmethod(lambda: NOW)

        @staticmethod
        def find_addresses(config: Config, host: str) -> tuple[list[str], str]:
            asked.append(host)
            return [], "no network"

    here, missing = read(tmp_path), source(tmp_path / "none")
    config = Config(upstreams=(parse_upstream("tls://192.0.2.1"),))
    (reason,) = first([here, missing, source(tmp_path, urls=[])], config, Type)
    assert reason == f"source test: {URL}: cannot find the address of mirror.example: no network"
    assert asked == ["mirror.example"]


def test_a_first_start_reads_again_and_says_why_there_is_still_nothing(tmp_path: Path) -> None:
    class Type:
        clock = wall = staticmethod(lambda: NOW)

        @staticmethod
        def find_addresses(config: Config, host: str) -> tuple[list[str], str]:
            return [], "no network"

    nothing, config = ConfigError("nothing"), Config(upstreams=(parse_upstream("tls://192.0.2.1"),))
    nothing.sources = (source(tmp_path / "none"),)  # type: ignore[attr-defined]

    def read_again(error: ConfigError) -> Config:
        raise error

    assert first_start(nothing, config, Type, lambda: config) is config
    with pytest.raises(ProcessError, match=r"none could be had:\n  source test: .*no network$"):
        first_start(nothing, config, Type, lambda: read_again(nothing))
    with pytest.raises(ConfigError, match="a mistake"):
        first_start(nothing, config, Type, lambda: read_again(ConfigError("a mistake")))
