"""What a configuration asks of the process, and in which order rights are given up."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from _udp2tls import process
from _udp2tls.config import ConfigError
from _udp2tls.process import Process, ProcessError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Unix users and groups")
users = pytest.mark.skipif(find_spec("pwd") is None or find_spec("grp") is None, reason="Unix only: no pwd and grp")


def test_nothing_asked_is_nothing_done() -> None:
    process.check(Process())
    process.write_pid(Process())
    process.give_up_rights(Process())
    process.remove_pid(Process())


@users
def test_users_and_groups_are_names_or_numbers() -> None:
    assert process.user_id("root") == process.user_id("0") == (0, 0)
    assert process.group_id("root") == process.group_id("0") == 0
    assert process.user_id("54321") == (54321, 54321), "a number need not have a name"


@users
@pytest.mark.parametrize("asked", [Process(setuid="nosuchuser"), Process(setgid="nosuchgroup")])
def test_an_unknown_user_or_group_is_a_configuration_error(asked: Process) -> None:
    with pytest.raises(ConfigError, match=r"nosuch(.|\n)*create it"):
        process.check(asked)


def test_a_jail_without_root_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="chroot needs root"):
        process.check(Process(chroot="/jail"))


def test_the_pid_file_holds_our_number_and_goes(tmp_path: Path) -> None:
    asked = Process(pid=str(tmp_path / "udp2tls.pid"))
    process.write_pid(asked)
    assert (tmp_path / "udp2tls.pid").read_text() == f"{os.getpid()}\n"
    process.remove_pid(asked)
    assert not (tmp_path / "udp2tls.pid").exists()
    process.remove_pid(asked)


def test_a_pid_file_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match=r"no/such/udp2tls\.pid: No such file(.|\n)*pid ="):
        process.write_pid(Process(pid=str(tmp_path / "no" / "such" / "udp2tls.pid")))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    made: list[tuple[str, object]] = []
    for name in ("chroot", "chdir", "setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda value, name=name: made.append((name, value)))
    return made


@users
def test_the_jail_comes_first_and_the_user_last(calls: list[tuple[str, object]]) -> None:
    process.give_up_rights(Process(chroot="/jail", setuid="65534", setgid="65533"))
    assert calls == [
        ("chroot", "/jail"), ("chdir", "/"), ("setgroups", [65533]), ("setgid", 65533), ("setuid", 65534),
    ]  # fmt: skip


@users
def test_a_user_alone_brings_its_own_group_and_loses_roots(calls: list[tuple[str, object]]) -> None:
    process.give_up_rights(Process(setuid="54321"))
    assert calls == [("setgroups", []), ("setgid", 54321), ("setuid", 54321)]


@users
def test_what_the_system_forbids_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(value: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setgroups", forbidden)
    with pytest.raises(ProcessError, match=r"user nobody(.|\n)*not permitted(.|\n)*start as root"):
        process.give_up_rights(Process(setuid="nobody"))


def test_in_a_jail_the_pid_file_is_too(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    process.write_pid(Process(pid="/run/udp2tls.pid", chroot=str(tmp_path)))
    assert (tmp_path / "run" / "udp2tls.pid").read_text() == f"{os.getpid()}\n"
