"""What is installed: the wheel's names, its metadata, its entry point."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import udp2tls

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.Path:
    """Build the wheel from a copy of the tree, so that the tree stays clean."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    for folder_name in "_udp2tls", "stunnel_compat":
        shutil.copytree(ROOT / folder_name, source / folder_name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in "udp2tls.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE":
        shutil.copy(ROOT / name, source)
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not built.returncode, built.stdout + built.stderr
    return zipfile.Path(next(folder.glob("*.whl")))


def test_three_names_land_in_site_packages(wheel: zipfile.Path) -> None:
    names = {entry.name for entry in wheel.iterdir()}
    assert names == {"udp2tls.py", "_udp2tls", "stunnel_compat", f"udp2tls-{udp2tls.__version__}.dist-info"}


def test_every_room_is_in_the_wheel(wheel: zipfile.Path) -> None:
    installed = {entry.name for entry in (wheel / "_udp2tls").iterdir()}
    assert installed == {path.name for path in (ROOT / "_udp2tls").glob("*.py")} | {"py.typed"}


def test_the_metadata_is_complete(wheel: zipfile.Path) -> None:
    info = wheel / f"udp2tls-{udp2tls.__version__}.dist-info"
    metadata = Parser().parsestr((info / "METADATA").read_text(encoding="utf-8"))
    assert metadata["Version"] == udp2tls.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert "MIT" in (metadata["License"] or metadata["License-Expression"])
    assert set(metadata.get_all("Provides-Extra") or []) == {"windows", "xsalsa20", "test", "bench"}
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "udp2tls = udp2tls:main" in (info / "entry_points.txt").read_text(encoding="utf-8")
