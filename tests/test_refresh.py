"""refresh: what is due is downloaded in a thread, once at a time, and the log hears of it once."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from _udp2tls import refresh
from _udp2tls.download import DownloadError
from _udp2tls.refresh import LONGEST, SHORTEST, Get, Refresh
from _udp2tls.sources import HOUR, RETRY, Source
from tests.fakes import Clock
from tests.test_minisign import flipped
from tests.test_sources import NEW, NEWEST, NOW, OLD, URL, files_in, names, put, source

WAIT = 5.0
OTHER = "https://other.example/list.md"


class World:
    """A Refresh with a fake clock; ``web`` is what there is at each URL, bytes or an error."""

    def __init__(self, *sources: Source, downloads: bool = True) -> None:
        self.clock = Clock()
        self.wall_ahead = NOW - self.clock()
        self.web: dict[str, bytes | Exception] = {}
        self.asked: list[str] = []
        self.threads: list[threading.Thread] = []
        self.wishes: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.changes: list[threading.Thread] = []
        self.held: threading.Event | None = None
        self.getting = threading.Event()
        self.refresh = Refresh(self._getter, self.wishes.put, self.wall, self._changed, downloads=downloads)
        self.refresh.take(sources)

    def wall(self) -> float:
        return self.clock() + self.wall_ahead

    def _changed(self) -> None:
        self.changes.append(threading.current_thread())

    def _getter(self) -> Get:
        assert threading.current_thread() is not threading.main_thread()
        self.threads.append(threading.current_thread())
        return self._get

    def _get(self, url: str, most: int) -> bytes:
        self.asked.append(url)
        self.getting.set()
        if self.held:
            assert self.held.wait(WAIT)
        found = self.web.get(url, DownloadError("the server says 404"))
        if isinstance(found, Exception):
            raise found
        return found[: most + 1]

    def serve(self, pair: tuple[bytes, bytes], url: str = URL) -> None:
        self.web[url], self.web[url + ".minisig"] = pair

    def look(self) -> float:
        """Let the loop look, and return in how many seconds it is to look again."""
        return self.refresh.look(self.clock()) - self.clock()

    def settle(self, count: int = 1) -> None:
        """Wait for so many threads to end, and do in the loop what they say."""
        for _ in range(count):
            self.wishes.get(timeout=WAIT)()
        assert self.wishes.empty()

    def later(self, seconds: float) -> float:
        self.clock.now += seconds
        return self.look()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.INFO, "udp2tls")

    def take() -> list[str]:
        lines = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return lines

    return take


def aged(folder: Path, pair: tuple[bytes, bytes], hours: float) -> Source:
    """Return a source that has a list of that age."""
    put(folder, pair)
    os.utime(folder / "list.md", (NOW - hours * HOUR, NOW - hours * HOUR))
    one = source(folder)
    one.load()
    return one


def test_a_list_is_downloaded_when_there_is_none_and_again_in_three_days(tmp_path: Path, said: Any) -> None:
    one = source(tmp_path)
    world = World(one)
    world.serve(OLD)
    world.look()
    world.settle()
    assert names(one.listing) == ["old"]
    assert world.asked == [URL, URL + ".minisig"]
    assert len(world.changes) == 1
    assert world.changes[0] is world.threads[0]
    assert said() == [f"source test: a new list, 1 entries, signed {(NOW - 1) / 86400:.1f} days ago"]
    for _ in range(72 * 6):
        assert world.look() <= LONGEST
        world.clock.now += LONGEST
    assert world.asked == [URL, URL + ".minisig"]
    world.serve(NEW)
    world.look()
    world.settle()
    assert names(one.listing) == ["new"]
    assert len(world.changes) == 2


def test_looks_are_rare_and_cost_nothing_in_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = aged(tmp_path, OLD, 71.99)
    world = World(one)
    looked: list[str] = []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **how: (looked.append(path), stat(path, **how))[1])  # type: ignore[func-returns-value]
    assert world.look() == SHORTEST
    for _ in range(59):
        world.later(1)
    assert looked == [str(tmp_path / "list.md")]
    world.later(1)
    world.settle()
    assert len(world.threads) == 1


def test_a_fresh_list_is_left_alone(tmp_path: Path) -> None:
    world = World(aged(tmp_path, OLD, 1))
    assert world.look() == LONGEST
    assert world.threads == []


def test_without_sources_nothing_is_ever_done() -> None:
    world = World()
    assert world.look() == LONGEST


def test_a_source_without_urls_is_only_read(tmp_path: Path) -> None:
    world = World(source(tmp_path, urls=[]))
    assert world.look() == LONGEST
    world.later(1e6)
    assert world.threads == []


def test_a_failure_is_said_once_and_the_list_stays(tmp_path: Path, said: Any) -> None:
    one = aged(tmp_path, OLD, 100)
    world = World(one)
    before = files_in(tmp_path)
    for _ in range(5):
        world.look()
        world.settle()
        assert world.look() == RETRY
        world.later(RETRY)
    world.settle()
    assert said() == [f"source test: not renewed, the list that is here is used on: {URL}: the server says 404"]
    assert len(world.threads) == 6
    world.web[URL] = DownloadError("the server says 500")
    world.later(RETRY)
    world.settle()
    assert len(said()) == 1
    world.serve(OLD)
    world.later(RETRY)
    world.settle()
    assert len(said()) == 1
    assert files_in(tmp_path) == before
    assert names(one.listing) == ["old"]


def test_without_any_list_the_log_says_so(tmp_path: Path, said: Any) -> None:
    world = World(source(tmp_path))
    world.look()
    world.settle()
    assert said() == [f"source test: there is no list yet: {URL}: the server says 404"]
    assert world.changes == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ((flipped(NEW[0], 5, 0), NEW[1]), "the signature is not one of this file"),
        ((NEW[0], flipped(NEW[1], 100, 0)), "sign"),
        ((b"", b""), "signature"),
        (OLD[:1] + NEW[1:], "the signature is not one of this file"),
    ],
)
def test_what_is_not_signed_is_refused_and_the_next_url_is_asked(
    tmp_path: Path, bad: tuple[bytes, bytes], reason: str, said: Any
) -> None:
    one = aged(tmp_path, OLD, 100)
    one.urls = (URL, OTHER)
    before = files_in(tmp_path)
    world = World(one)
    world.serve(bad)
    world.look()
    world.settle()
    assert files_in(tmp_path) == before
    (line,) = said()
    assert line.startswith(f"source test: not renewed, the list that is here is used on: {URL}: ")
    assert reason in line
    assert line.endswith(f"; {OTHER}: the server says 404")
    world.serve(NEW, OTHER)
    world.later(RETRY)
    world.settle()
    assert names(one.listing) == ["new"]
    assert len(said()) == 1


def test_there_is_one_thread_for_a_source_and_the_loop_goes_on(tmp_path: Path) -> None:
    one = source(tmp_path)
    world = World(one)
    world.serve(OLD)
    world.held = threading.Event()
    world.look()
    assert world.getting.wait(WAIT)
    for _ in range(100):
        world.later(HOUR)
    world.refresh.take([source(tmp_path)])  # SIGHUP: another object for the same file
    for _ in range(100):
        world.later(HOUR)
    world.refresh.take([])
    world.later(HOUR)
    world.refresh.take([source(tmp_path)])
    world.later(HOUR)
    assert len(world.threads) == 1
    world.held.set()
    world.settle()


def test_a_thread_that_computes_does_not_keep_the_loop_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []
    monkeypatch.setattr(sys, "setswitchinterval", shares.append)
    world = World(source(tmp_path))
    world.serve(OLD)
    assert shares == []
    world.look()
    world.settle()
    assert shares
    assert max(shares) < 0.001


def test_sources_do_not_wait_for_each_other(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    first, second = source(folders[0]), source(folders[1], urls=[OTHER])
    world = World(first, second)
    world.serve(OLD)
    world.serve(NEW, OTHER)
    world.held = threading.Event()
    world.look()
    world.held.set()
    world.settle(2)
    assert names(first.listing) + names(second.listing) == ["old", "new"]
    assert len(world.threads) == 2
    assert all(thread.daemon for thread in world.threads)


def test_sighup_does_not_ask_a_failing_server_again_before_its_time_unless_the_urls_are_others(tmp_path: Path) -> None:
    world = World(source(tmp_path))
    world.look()
    world.settle()
    world.refresh.take([source(tmp_path)])
    world.look()
    assert len(world.threads) == 1
    world.refresh.take([source(tmp_path, urls=[OTHER])])
    world.look()
    world.settle()
    assert world.asked == [URL, OTHER]


def test_a_list_that_came_while_sighup_replaced_its_source_is_read_by_the_new_one(tmp_path: Path) -> None:
    old, new = source(tmp_path), source(tmp_path)
    world = World(old)
    world.serve(OLD)
    world.held = threading.Event()
    world.look()
    world.refresh.take([new])
    world.held.set()
    world.settle()
    world.look()
    world.later(SHORTEST)
    world.settle()
    assert names(new.listing) == ["old"]
    assert len(world.changes) == 2
    assert len(world.threads) == 1, "nothing is downloaded twice"


def test_who_does_not_download_reads_what_another_process_has_stored(tmp_path: Path, said: Any) -> None:
    here = aged(tmp_path, OLD, 100)
    world = World(here, downloads=False)
    assert world.look() == SHORTEST
    source(tmp_path).accept(*NEW, world.wall() + SHORTEST - 1)
    world.later(SHORTEST)
    assert world.wishes.empty(), "it may be one of a pair that is being stored"
    world.later(SHORTEST)
    world.settle()
    assert names(here.listing) == ["new"]
    assert len(world.changes) == 1
    assert world.asked == []
    assert len(said()) == 1
    for _ in range(10):
        world.later(SHORTEST)
    assert world.wishes.empty()


def test_a_file_that_is_no_good_is_read_once(tmp_path: Path, said: Any) -> None:
    here = aged(tmp_path, NEW, 100)
    world = World(here, downloads=False)
    (tmp_path / "list.md").write_bytes(b"## evil\nsdns://evil\n")
    os.utime(tmp_path / "list.md", (NOW - 50, NOW - 50))
    world.look()
    world.settle()
    for _ in range(10):
        world.later(SHORTEST)
    assert world.wishes.empty()
    assert names(here.listing) == ["new"]
    assert said() == [
        "source test: not renewed, the list that is here is used on: the signature is not one of this file"
    ]  # fmt: skip
    assert world.changes == []


def test_a_list_that_cannot_be_stored_is_used_and_not_downloaded_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Any
) -> None:
    one = aged(tmp_path, OLD, 100)
    world = World(one)
    world.serve(NEW)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(one, "_store", full)
    world.look()
    world.settle()
    assert names(one.listing) == ["new"]
    assert len(world.changes) == 1
    assert said()[0].endswith("No space left on device")
    for _ in range(100):
        world.later(LONGEST)
    assert world.wishes.empty()
    assert len(world.threads) == 1


def test_whatever_goes_wrong_in_the_thread_the_source_is_tried_again(tmp_path: Path, said: Any) -> None:
    world = World(source(tmp_path))
    world.web[URL] = RuntimeError("a mistake of ours")
    world.look()
    world.settle()
    assert said() == ["source test: there is no list yet: RuntimeError: a mistake of ours"]
    world.serve(NEWEST)
    world.later(RETRY)
    world.settle()
    assert len(world.changes) == 1


def test_where_no_thread_can_be_started_the_loop_goes_on(
    tmp_path: Path, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(source(tmp_path))
    world.serve(OLD)

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert world.look() == SHORTEST
    assert said() == ["source test: there is no list yet: can't start new thread"]
    world.later(RETRY)
    world.settle()
    assert len(world.changes) == 1


def test_a_clock_that_is_set_is_noticed(tmp_path: Path) -> None:
    world = World(aged(tmp_path, OLD, 1))
    world.look()
    world.wall_ahead += 100 * HOUR
    world.later(LONGEST)
    world.settle()
    assert len(world.threads) == 1


def test_a_first_list_can_be_had_before_anything_runs(tmp_path: Path) -> None:
    one = source(tmp_path)
    world = World()
    assert refresh.renew(one, world._get, world.wall) == f"{URL}: the server says 404"
    assert one.wait(world.wall()) == RETRY
    world.serve(OLD)
    assert refresh.renew(one, world._get, world.wall) == ""
    assert names(one.listing) == ["old"]
    assert math.isclose(one.stored, NOW)
