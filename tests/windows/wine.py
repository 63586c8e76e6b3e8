"""A Windows of its own under Wine, which lives as long as the ``with`` block.

Three traps of Wine 8 are stepped around. What the first program starts inherits its output
and keeps it open: so it has none. A Windows ends with its last ordinary program, services or
not: so one sleeps in it. And Python with its output in a file does not start: so it is a pipe.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.windows.obtain import PYTHON


def windows_path(path: Path) -> str:
    return "Z:" + str(path).replace("/", "\\")


class Wine:
    """See the file's docstring. ``cache`` has the programs, ``folder`` becomes the disk C:."""

    def __init__(self, cache: Path, folder: Path) -> None:
        self.python = str(cache / PYTHON / "python.exe")
        self._folder = folder
        unwanted = ("HOST", "PORT", "DNS_HOST", "DNS_PORT", "DISPLAY", "SSL_CERT_FILE", "SSL_CERT_DIR")
        self._environment = {
            name: value for name, value in os.environ.items()
            if name not in unwanted and not name.startswith(("PYTHON", "WINE"))
        } | {
            "WINEPREFIX": str(folder), "WINEDEBUG": "-all", "WINEPATH": windows_path(cache),
            "WINEDLLOVERRIDES": "wbemprox=d",  # platform.uname() of Python 3.13 makes Wine 8 abort
        }  # fmt: skip
        self._keeper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self._quietly("wineboot", "-i")
            self._quietly("wine", "winecfg", "-v", "win10")  # Python 3.13 wants no less
            self._quietly("wineserver", "-w")
            self._keeper = subprocess.Popen(
                ["wine", self.python, "-c", "import time; time.sleep(1000)"], env=self._environment,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            self._quietly("wine", "cmd", "/c", "exit")  # so that all that Wine starts is started, without a pipe
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(subprocess.SubprocessError):
            self._quietly("wineserver", "-k")
        if self._keeper is not None:
            self._keeper.kill()
            self._keeper.wait(10)
        for number in self._left():  # deaf ones: a nssm that waits before it starts something again
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)

    def _left(self) -> list[int]:
        """Return the processes of this Windows that still run."""
        mark = b"WINEPREFIX=" + os.fsencode(self._folder)
        return [number for number in _processes() if mark in _read(number, "environ").split(b"\0")]

    def _quietly(self, *command: str) -> None:
        subprocess.run(
            command, env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, timeout=90, check=False,
        )  # fmt: skip

    def run(
        self, *command: str, folder: Path | None = None, timeout: float = 60, variables: dict[str, str] | None = None
    ) -> tuple[int, str]:
        """Run a program; return its status and what it said."""
        done = subprocess.run(
            ["wine", *command], env=self._environment | (variables or {}), cwd=folder or self._folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False,
        )  # fmt: skip
        # nssm writes UTF-16 to what is no console.
        text = done.stdout.replace(b"\0", b"").decode("utf-8", "replace").replace("\r\n", "\n")
        return done.returncode, text


def kill(*words: str) -> int:
    """End the one Python that has all of these words in its command line, as a crash would; return its number."""
    found = [number for number in _processes() if _has(number, words)]
    assert len(found) == 1, f"not one process with {words}: {found}"
    os.kill(found[0], signal.SIGKILL)
    return found[0]


def _has(number: int, words: Sequence[str]) -> bool:
    line = _read(number, "cmdline").decode("utf-8", "replace")
    # nssm and Wine's own starters name the same program; what runs has it in front.
    return line.partition("\0")[0].endswith("python.exe") and all(word in line for word in words)


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read(number: int, what: str) -> bytes:
    try:
        return Path(f"/proc/{number}/{what}").read_bytes()
    except OSError:
        return b""  # it has ended meanwhile, or is somebody else's
