"""sources: a list is used only with its signature, and a crash at any moment leaves the old pair or the new."""

from __future__ import annotations

import builtins
import io
import itertools
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from _udp2tls import lists, sources
from _udp2tls.sources import HOUR, RETRY, Source, SourceError, signature_url
from tests.test_minisign import LISTS, Signer, flipped

SIGNER = Signer()
URL = "https://mirror.example/v3/list.md"
NOW = 1_800_000_000.0


def text(*names: str) -> bytes:
    return "".join(f"## {name}\n\nA server.\n\nsdns://{name}\n\n" for name in names).encode()


def pair(timestamp: int, *names: str, file: str = "list.md") -> tuple[bytes, bytes]:
    data = text(*names)
    return data, SIGNER.sign(data, timestamp=timestamp, file=file, prehashed=bool(timestamp % 2))


OLD, NEW, NEWEST = pair(1, "old"), pair(2, "new"), pair(3, "newest")


def source(folder: Path, **changes: Any) -> Source:
    values = {"cache_file": str(folder / "list.md"), "minisign_key": SIGNER.line, "urls": [URL]} | changes
    return Source("test", **values)


def names(listing: lists.Listing | None) -> list[str]:
    assert listing is not None
    return [entry.name for entry in listing.entries]


def refusal(call: Callable[..., object], *args: object) -> str:
    with pytest.raises(SourceError) as caught:
        call(*args)
    assert str(caught.value).startswith("source test: ")
    return str(caught.value).removeprefix("source test: ")


def put(folder: Path, files: tuple[bytes, bytes]) -> None:
    (folder / "list.md").write_bytes(files[0])
    (folder / "list.md.minisig").write_bytes(files[1])


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


SETTLED = {"list.md", "list.md.minisig"}


def test_a_download_is_stored_and_read_again(tmp_path: Path) -> None:
    first = source(tmp_path, prefix="mine-")
    assert first.listing is None
    assert names(first.accept(*OLD, NOW)) == names(first.listing) == ["mine-old"]
    assert files_in(tmp_path) == {"list.md": OLD[0], "list.md.minisig": OLD[1]}
    assert (tmp_path / "list.md").stat().st_mtime == NOW
    again = source(tmp_path)
    assert names(again.load()) == names(again.listing) == ["old"]
    assert names(again.accept(*NEW, NOW + 5)) == ["new"]
    assert files_in(tmp_path) == {"list.md": NEW[0], "list.md.minisig": NEW[1]}
    assert again.accept(*NEW, NOW + 5).notes == ()


@pytest.mark.parametrize("name", ["odoh-servers.md", "opennic.md", "parental-control.md", "relays.md"])
def test_the_projects_lists(tmp_path: Path, name: str) -> None:
    if not (LISTS / name).exists():
        pytest.skip("the project's lists are not here")
    key = (LISTS / "minisign.pub").read_text().splitlines()[1]
    for file in (name, name + ".minisig"):
        shutil.copyfile(LISTS / file, tmp_path / file)
    here = Source("real", cache_file=str(tmp_path / name), minisign_key=key, urls=[f"https://mirror.example/v3/{name}"])
    offline = Source("real", cache_file=str(tmp_path / name), minisign_key=key)
    assert here.load() == offline.load()
    data, signature = (LISTS / name).read_bytes(), (LISTS / f"{name}.minisig").read_bytes()
    assert here.accept(data, signature, NOW).notes == ()
    other = "relays.md" if name != "relays.md" else "opennic.md"
    with pytest.raises(SourceError, match=rf"signed as '{other}', expected '{name}'"):
        here.accept((LISTS / other).read_bytes(), (LISTS / f"{other}.minisig").read_bytes(), NOW)
    (tmp_path / name).write_bytes(flipped(data, len(data) // 2, 0))
    with pytest.raises(SourceError, match="not one of this file"):
        here.load()


def test_the_file_is_verified_each_time_it_is_read(tmp_path: Path) -> None:
    put(tmp_path, OLD)
    here = source(tmp_path)
    here.load()
    for position in range(len(OLD[0])):
        (tmp_path / "list.md").write_bytes(flipped(OLD[0], position, position % 8))
        assert refusal(here.load) == "the signature is not one of this file"
    assert names(here.listing) == ["old"]


@pytest.mark.parametrize(
    ("data", "signature", "reason"),
    [
        (text("evil"), OLD[1], "the signature is not one of this file"),
        (*pair(9, "other", file="relays.md"), "signed as 'relays.md', expected 'list.md'"),
        (*OLD, "signed 1 seconds earlier than the file that is already here"),
        (b"x", SIGNER.sign(b"x", timestamp=9), "the list has no entries"),
        (NEWEST[0], b"", "the signature has not 4 lines"),
        (b"#" * (lists.MAX_SIZE + 1), b"", "the list has 4194305 bytes, and 4194304 are the most"),
        (NEWEST[0], Signer(2).sign(NEWEST[0]), f"signed with the key {Signer(2).key}, not with {SIGNER.key}"),
    ],
)
@pytest.mark.parametrize("loaded", [False, True])
def test_a_download_that_is_refused_changes_nothing(
    tmp_path: Path, data: bytes, signature: bytes, reason: str, loaded: bool
) -> None:
    put(tmp_path, NEW)
    before = files_in(tmp_path)
    here = source(tmp_path)
    if loaded:
        here.load()
    assert refusal(here.accept, data, signature, NOW) == reason
    assert names(here.listing) == ["new"]
    assert files_in(tmp_path) == before


def test_an_older_file_put_under_a_running_program_is_not_used(tmp_path: Path) -> None:
    here = source(tmp_path)
    here.accept(*NEW, NOW)
    put(tmp_path, OLD)
    assert "1 seconds earlier" in refusal(here.load)
    assert names(here.listing) == ["new"]
    assert names(source(tmp_path).load()) == ["old"]
    here.accept(*NEW, NOW)
    assert names(source(tmp_path).load()) == ["new"]


def test_the_same_list_again_is_not_written_again(tmp_path: Path) -> None:
    here = source(tmp_path)
    here.accept(*OLD, NOW)
    inode = (tmp_path / "list.md").stat().st_ino
    here.accept(*OLD, NOW + 100)
    assert (tmp_path / "list.md").stat().st_ino == inode
    assert (tmp_path / "list.md").stat().st_mtime == NOW + 100


def test_what_cannot_be_stored_is_used_all_the_same(tmp_path: Path) -> None:
    here = source(tmp_path, cache_file=str(tmp_path / "missing" / "list.md"))
    (note,) = here.accept(*OLD, NOW).notes
    assert note.startswith("not stored: ")
    assert "No such file" in note
    assert names(here.listing) == ["old"]
    assert here.wait(NOW) == 72 * HOUR


def test_a_link_in_the_place_of_a_new_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "list.md.new").symlink_to(victim)
    source(tmp_path).accept(*OLD, NOW)
    assert victim.read_text() == "untouched"
    assert not (tmp_path / "list.md").is_symlink()


def test_windows_cannot_open_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_DIRECTORY", raising=False)
    assert source(tmp_path).accept(*OLD, NOW).notes == ()


def test_nothing_stored_is_said_so(tmp_path: Path) -> None:
    assert refusal(source(tmp_path).load) == f"{tmp_path / 'list.md'}: No such file or directory"
    (tmp_path / "list.md").write_bytes(OLD[0])
    assert refusal(source(tmp_path).load) == f"{tmp_path / 'list.md.minisig'}: No such file or directory"
    (tmp_path / "list.md.minisig").write_bytes(bytes(20000))
    assert refusal(source(tmp_path).load) == f"{tmp_path / 'list.md.minisig'}: more than 16384 bytes"


# -- crashes


class Crash(BaseException):
    """The power fails: nothing catches it."""


class Steps:
    """Counts what changes the disk; the step ``last`` fails, and a write fails half way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, last: int | None, error: type[BaseException]) -> None:
        self.done, self.last, self.error = 0, last, error
        for name in ("replace", "unlink", "fsync", "utime"):
            monkeypatch.setattr(os, name, self.counting(getattr(os, name)))
        monkeypatch.setattr(sources, "open", self.open, raising=False)

    def step(self) -> None:
        self.done += 1
        if self.done == self.last:
            raise self.error("at this step")

    def counting(self, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **more: object) -> object:
            self.step()
            return call(*args, **more)

        return counted

    def open(self, path: str, mode: str) -> io.BufferedIOBase:
        if mode == "rb":
            return builtins.open(path, "rb")
        self.step()
        file = builtins.open(path, "xb", buffering=0)  # noqa: SIM115  (closed by Half)
        steps = self

        class Half:
            def __enter__(self) -> Half:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def __getattr__(self, name: str) -> object:
                return getattr(file, name)

            def write(self, content: bytes) -> None:
                file.write(content[: len(content) // 2])
                steps.step()
                file.write(content[len(content) // 2 :])

        return Half()  # type: ignore[return-value]


def crashed(last: int | None, error: type[BaseException], call: Callable[..., object], *args: object) -> int:
    """Call with the given step failing; return how many steps there were."""
    with pytest.MonkeyPatch.context() as patch:
        steps = Steps(patch, last, error)
        try:
            call(*args)
        except Crash:
            pass
        return steps.done


def test_steps_of_storing(tmp_path: Path) -> None:
    put(tmp_path, OLD)
    # Twice: unlink, open, write, fsync, utime; the folder; two replaced; the folder.
    assert crashed(None, Crash, source(tmp_path).accept, *NEW, NOW) == 14


@pytest.mark.parametrize("error", [Crash, OSError])
@pytest.mark.parametrize("last", range(1, 15))
def test_a_crash_while_storing_leaves_the_old_pair_or_the_new(tmp_path: Path, last: int, error: Any) -> None:
    put(tmp_path, OLD)
    crashed(last, error, source(tmp_path).accept, *NEW, NOW)
    if error is OSError and last < 12:
        assert set(files_in(tmp_path)) == SETTLED  # a disk may be full: nothing stays on it in vain
    found = names(source(tmp_path).load())
    assert found == (["new"] if last > 12 else ["old"])  # the 12th step is to replace the first of the two
    listing = source(tmp_path).accept(*NEWEST, NOW)
    assert (names(listing), listing.notes) == (["newest"], ())
    assert files_in(tmp_path) == {"list.md": NEWEST[0], "list.md.minisig": NEWEST[1]}


@pytest.mark.parametrize("last", range(1, 15))
def test_a_crash_while_storing_the_first_list(tmp_path: Path, last: int) -> None:
    crashed(last, Crash, source(tmp_path).accept, *NEW, NOW)
    try:
        assert names(source(tmp_path).load()) == ["new"]
    except SourceError:
        assert last < 9  # before the signature has been written, there is no pair
    source(tmp_path).accept(*NEWEST, NOW)
    assert set(files_in(tmp_path)) == SETTLED


@pytest.mark.parametrize("first", range(1, 15))
def test_crash_after_crash(tmp_path: Path, first: int) -> None:
    """A second crash, while what the first has left is put in order and a third list is stored."""
    for second in itertools.count(1):
        folder = tmp_path / str(second)
        folder.mkdir()
        put(folder, OLD)
        crashed(first, Crash, source(folder).accept, *NEW, NOW)
        before = names(source(folder).load()) if second % 2 else None  # half of them loaded in between
        here = source(folder)
        steps = crashed(second, Crash, here.accept, *NEWEST, NOW)
        if steps < second:
            break
        found = names(source(folder).load())
        assert found in (["old"], ["new"], ["newest"])
        assert before is None or found in (before, ["newest"])
    assert second > 12


@pytest.mark.parametrize("data", ["old", "new"])
@pytest.mark.parametrize("signature", ["old", "new"])
def test_renames_that_reached_the_disk_in_any_order(tmp_path: Path, data: str, signature: str) -> None:
    put(tmp_path, ((OLD if data == "old" else NEW)[0], (OLD if signature == "old" else NEW)[1]))
    if data == "old":
        (tmp_path / "list.md.new").write_bytes(NEW[0])
    if signature == "old":
        (tmp_path / "list.md.minisig.new").write_bytes(NEW[1])
    expected = "old" if data == signature == "old" else "new"
    assert names(source(tmp_path).load()) == [expected]
    if expected == "new":
        assert files_in(tmp_path) == {"list.md": NEW[0], "list.md.minisig": NEW[1]}


def test_a_list_and_a_signature_of_two_downloads_are_refused(tmp_path: Path) -> None:
    put(tmp_path, (OLD[0], NEW[1]))
    assert refusal(source(tmp_path).load) == "the signature is not one of this file"
    put(tmp_path, (NEW[0], OLD[1]))
    (tmp_path / "list.md.new").write_bytes(NEWEST[0])
    (tmp_path / "list.md.minisig.new").write_bytes(NEW[1][:-30])
    assert refusal(source(tmp_path).load) == "the signature is not one of this file"
    assert names(source(tmp_path).accept(*NEWEST, NOW)) == ["newest"]
    assert set(files_in(tmp_path)) == SETTLED


def test_what_a_crash_left_is_used_although_it_cannot_be_put_in_order(tmp_path: Path) -> None:
    """Nor is a newer download written over it then: the signature that is still needed is in its way."""
    put(tmp_path, (NEW[0], OLD[1]))
    (tmp_path / "list.md.minisig.new").write_bytes(NEW[1])
    before = files_in(tmp_path)
    here = source(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", Steps.counting(Steps(patch, 1, OSError), os.replace))
        assert names(here.load()) == ["new"]
        patch.setattr(os, "replace", Steps.counting(Steps(patch, 1, OSError), os.replace))
        listing = here.accept(*NEWEST, NOW)
    assert names(listing) == ["newest"]
    assert listing.notes[0].startswith("not stored: ")
    assert files_in(tmp_path) == before


# -- when


def test_when_the_next_download_is_due(tmp_path: Path) -> None:
    here = source(tmp_path, refresh_delay=48)
    assert here.wait(NOW) == 0
    here.accept(*OLD, NOW)
    assert here.wait(NOW) == 48 * HOUR
    assert here.wait(NOW + 47 * HOUR) == HOUR
    assert here.wait(NOW + 48 * HOUR) == here.wait(NOW + 999 * HOUR) == 0
    assert here.wait(NOW - 1) == 0  # the clock was ahead when it was stored: its age is not known
    again = source(tmp_path, refresh_delay=24)
    again.load()
    assert again.wait(NOW + HOUR) == 23 * HOUR
    assert source(tmp_path, urls=[]).wait(NOW) == math.inf


def test_after_a_failure_ten_minutes(tmp_path: Path) -> None:
    here = source(tmp_path)
    here.failed(NOW)
    assert here.wait(NOW) == RETRY == 600
    assert here.wait(NOW + 599) == 1
    assert here.wait(NOW + 600) == 0
    assert here.wait(NOW - 1) == 0
    here.accept(*OLD, NOW + 700)
    assert here.wait(NOW + 700) == 72 * HOUR
    here.failed(NOW + 700)
    assert here.wait(NOW + 700) == 72 * HOUR


@pytest.mark.parametrize(
    ("given", "hours"), [(0, 72), (-5, 72), (1, 24), (24, 24), (73, 73), (168, 168), (10**30, 168)]
)
def test_the_bounds_of_refresh_delay(tmp_path: Path, given: int, hours: int) -> None:
    assert source(tmp_path, refresh_delay=given).refresh_delay == hours


# -- the settings


def test_the_name_a_list_was_signed_under_is_that_of_the_url_or_of_the_file(tmp_path: Path) -> None:
    renamed = {"cache_file": str(tmp_path / "mine.md")}
    assert names(source(tmp_path, **renamed).accept(*OLD, NOW)) == ["old"]
    assert refusal(source(tmp_path, urls=[], **renamed).load) == "signed as 'list.md', expected 'mine.md'"
    assert source(tmp_path, urls=[URL, "https://a.example/b/other%20list.md?x=/y"]).files == {
        "list.md",
        "other list.md",
    }


def test_where_the_signature_is() -> None:
    assert signature_url(URL) == URL + ".minisig"
    assert signature_url("https://[::1]:8443/a/list.md?token=1#x") == "https://[::1]:8443/a/list.md.minisig?token=1#x"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cache_file": ""}, "cache_file is missing, or no name of a file"),
        ({"cache_file": "a\0b"}, "cache_file is missing, or no name of a file"),
        ({"minisign_key": "x"}, "minisign_key: the public key is not base64"),
        ({"minisign_key": SIGNER.line[:-4]}, "minisign_key: the public key is not the base64 of 42 bytes"),
    ] + [
        ({"urls": [URL, url]}, f"{url!r} is not https://HOST/PATH/FILE")
        for url in ("", "list.md", "http://a.example/list.md", "https://a.example", "https://a.example/v3/",
                    "https:///list.md", "https://a.example:x/list.md", "https://[a/list.md", "file:///list.md")
    ],
)  # fmt: skip
def test_settings_that_are_wrong(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    assert refusal(lambda: source(tmp_path, **changes)) == reason
