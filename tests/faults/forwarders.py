"""A forwarder under test: its processes, started in a folder of their own, measured and stopped by their ids."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.faults import recipes
from tests.peers import programs

_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
NAMES = tuple(recipes.RECIPES)
PEERS = NAMES[1:]
_VERSIONS = {  # how each says it
    "unbound": ["unbound", "-V"], "stubby": ["stubby", "-V"], "dnsdist": ["dnsdist", "--version"],
    "kresd": ["kresd", "--version"], "smartdns": ["smartdns", "-v"], "stunnel+lua": ["stunnel4", "-version"],
}  # fmt: skip


class DidNotStart(Exception):
    """The forwarder does not listen; what it said is in the message."""


def missing(name: str) -> str:
    """Return which program of forwarder ``name`` is not installed, "" when all are."""
    plan = recipes.Plan(1, (("127.0.0.1", 2),), "", Path())
    needed = [command[0] for command in recipes.RECIPES[name](plan).commands]
    return ", ".join(program for program in needed if _find(program) is None)


def can(name: str, ability: str) -> bool:
    """True when a scenario that needs ``ability`` is for this forwarder."""
    return not ability or ability in recipes.ABILITIES.get(name, ())


def version(name: str) -> str:
    command = _VERSIONS.get(name)
    if command is None:
        text = (recipes.CHECKOUT / "_udp2tls/__init__.py").read_text(encoding="utf-8")
        found = re.search(r'__version__ = "(.+?)"', text)
        return found[1] if found else ""
    done = subprocess.run([_find(command[0]) or "", *command[1:]], capture_output=True, text=True, check=False)
    found = re.search(r"\d+(\.\d+)+|(?<=smartdns )\S+", done.stdout + done.stderr)
    return found[0] if found else ""


class Forwarder:
    """Runs while the ``with`` block does."""

    def __init__(self, name: str, plan: recipes.Plan) -> None:
        self.name = name
        self.port = plan.port
        self._recipe = recipes.RECIPES[name](plan)
        self._folder = plan.folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        for file, text in self._recipe.files.items():
            (self._folder / file).write_text(text)
        try:
            for number, command in enumerate(self._recipe.commands, 1):
                self._launch(command)
                self._wait("udp" if number == len(self._recipe.commands) else "tcp")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, command: list[str]) -> None:
        with open(self._folder / "log", "ab") as log:
            self._processes.append(subprocess.Popen(
                [_find(command[0]) or command[0], *command[1:]], cwd=self._folder, env=programs.clean_environment(),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            ))  # fmt: skip

    def _wait(self, protocol: str) -> None:
        """Wait until it listens."""
        end = time.monotonic() + 15
        while f":{self.port:04X} 00000000:0000" not in _read(f"/proc/net/{protocol}"):
            if not self.alive or time.monotonic() > end:
                raise DidNotStart(f"{self.name}: {self.log[-500:]}")
            time.sleep(0.02)

    @property
    def alive(self) -> bool:
        return all(process.poll() is None for process in self._processes)

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def stop(self) -> None:
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(3)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(5)

    def pause(self) -> None:
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self._pids():
            os.kill(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        """Return its processes and all their children."""
        found: list[int] = []
        todo = [process.pid for process in self._processes if process.poll() is None]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for task in _tasks(pid):
                todo += [int(child) for child in _read(f"/proc/{pid}/task/{task}/children").split()]
        return found

    def open_files(self) -> int:
        return sum(len(_list(f"/proc/{pid}/fd")) for pid in self._pids())

    def resident(self) -> float:
        """Return its memory, in MB."""
        found = [re.search(r"VmRSS:\s+(\d+) kB", _read(f"/proc/{pid}/status")) for pid in self._pids()]
        return sum(int(match[1]) for match in found if match) / 1024

    def cpu(self) -> float:
        """Return the seconds its threads have run."""
        return sum(self.cpus())

    def cpus(self) -> list[float]:
        """Return that of each of its processes."""
        each = [[_read(f"/proc/{pid}/task/{task}/schedstat") for task in _tasks(pid)] for pid in self._pids()]
        return [sum(int(text.split()[0]) for text in texts if text) / 1e9 for texts in each]


def _find(program: str) -> str | None:
    return shutil.which(program, path=_PATH)


def _tasks(pid: int) -> list[str]:
    return _list(f"/proc/{pid}/task")


def _list(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []  # ended just now


def _read(file: str) -> str:
    try:
        return Path(file).read_text()
    except OSError:
        return ""
