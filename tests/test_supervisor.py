"""Who is started, told, started again and waited for. No process is made here."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from _udp2tls import log, supervisor
from _udp2tls.supervisor import FIRST_PAUSE, GRACE, LONGEST_PAUSE, Supervisor


class Fake:
    """Processes that do as the script says: each step stands for one wait for a signal."""

    def __init__(self, count: int, *script: Callable[[], str], begin: bool = True) -> None:
        self.now = 100.0
        self.did: list[object] = []
        self.script = list(script)
        self.pids: dict[int, int] = {}
        self.dead: list[tuple[int, int]] = []
        self.waits: list[float] = []
        self.obedient = True
        self._begin, self._began = begin, list[int]()
        self.supervisor = Supervisor(count, self, lambda: self.now, self.did.append)

    def run(self) -> int:
        return self.supervisor.run()

    def start(self, number: int) -> int:
        self.did.append(f"start {number}")
        pid = 1000 + len([one for one in self.did if str(one).startswith("start")])
        self.pids[number] = pid
        if self._begin:
            self._began.append(number)
        return pid

    def signal(self, wait: float) -> str:
        self.waits.append(wait)
        if self.script:
            return self.script.pop(0)()
        if self.supervisor._stopping:
            self.now += wait
            return ""
        return "SIGTERM"

    def tell(self, pid: int, name: str) -> None:
        self.did.append((name, pid))
        if name == "SIGKILL" or (name == "SIGTERM" and self.obedient):
            self.dead.append((pid, -9 if name == "SIGKILL" else 0))

    def ready(self) -> list[int]:
        began, self._began = self._began, []
        return began

    def ended(self) -> list[tuple[int, int]]:
        dead, self.dead = self.dead, []
        return dead

    def reload(self) -> None:
        self.did.append("reload")

    def nothing(self) -> str:
        return ""

    def after(self, seconds: float) -> Callable[[], str]:
        def step() -> str:
            self.now += seconds
            return ""

        return step

    def dies(self, number: int, status: int = -9) -> Callable[[], str]:
        def step() -> str:
            self.dead.append((self.pids[number], status))
            return "SIGCHLD"

        return step


def test_all_begin_and_it_is_said_once_and_all_end_with_status_0() -> None:
    fake = Fake(2)
    fake.script = [fake.nothing, fake.nothing]
    assert fake.run() == 0
    assert fake.did == [
        "start 1", "start 2", "READY=1", "STOPPING=1", ("SIGTERM", 1001), ("SIGTERM", 1002),
    ]  # fmt: skip


def test_signals_are_passed_on_and_the_configuration_and_the_log_are_our_own_also(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = Fake(2)
    monkeypatch.setattr(log, "reopen", lambda: fake.did.append("reopen"))
    fake.script = [fake.nothing, *(lambda name=name: name for name in supervisor.PASSED_ON)]
    assert fake.run() == 0
    both = [[(name, 1001), (name, 1002)] for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCONT")]
    assert fake.did[3:-3] == ["reload", *both[0], "reopen", *both[1], *both[2], *both[3]]


def test_who_dies_is_started_again_after_a_growing_pause(caplog: pytest.LogCaptureFixture) -> None:
    fake = Fake(2)
    fake.script = [
        fake.nothing, fake.dies(2), fake.after(FIRST_PAUSE / 2), fake.after(FIRST_PAUSE), fake.dies(2, 1),
        fake.after(FIRST_PAUSE), fake.after(2 * FIRST_PAUSE),
    ]  # fmt: skip
    with caplog.at_level(logging.INFO, "udp2tls"):
        assert fake.run() == 0
    assert fake.did.count("start 2") == 3
    assert fake.did.count("start 1") == fake.did.count("READY=1") == 1
    assert fake.waits[2] == pytest.approx(FIRST_PAUSE)
    assert fake.waits[5] == pytest.approx(2 * FIRST_PAUSE)
    assert "worker 2 (process 1002) was ended by signal 9; started again after 0.1 s" in caplog.text
    assert "worker 2 (process 1003) ended with status 1; started again after 0.2 s" in caplog.text


def test_the_pause_has_a_limit_and_a_worker_that_lived_well_begins_with_the_first_again() -> None:
    fake = Fake(1)
    fake.script = [fake.nothing]
    for _ in range(12):
        fake.script += [fake.dies(1), fake.after(LONGEST_PAUSE)]
    fake.script += [fake.after(1000), fake.dies(1), fake.nothing]
    assert fake.run() == 0
    assert max(wait for wait in fake.waits if wait < supervisor.LONG / 2) == LONGEST_PAUSE
    assert fake.waits[-1] == pytest.approx(FIRST_PAUSE)


@pytest.mark.parametrize(("status", "ours"), [(2, 2), (1, 1), (-9, 1), (0, 1)])
def test_when_one_cannot_begin_nobody_does(status: int, ours: int) -> None:
    fake = Fake(2, begin=False)
    fake.script = [fake.nothing, fake.dies(1, status)]
    assert fake.run() == ours
    assert "READY=1" not in fake.did
    assert fake.did.count("start 1") == 1
    assert ("SIGTERM", 1002) in fake.did
    assert fake.waits[0] == supervisor.LOOK


def test_who_does_not_end_is_killed_and_that_is_no_clean_stop() -> None:
    fake = Fake(2)
    fake.obedient = False
    fake.script = [fake.nothing]
    assert fake.run() == 1
    assert fake.did[-2:] == [("SIGKILL", 1001), ("SIGKILL", 1002)]
    assert fake.now >= 100 + GRACE
