"""The shape of the house: who may import what, one test file a room, no file too long."""

from __future__ import annotations

import ast
import tokenize
from pathlib import Path

import pytest

import _udp2tls

ROOT = Path(__file__).parent.parent
ROOMS = sorted((ROOT / "_udp2tls").glob("*.py"))
COMPAT = sorted((ROOT / "stunnel_compat").glob("*.py"))
IO = {"asyncio", "select", "selectors", "socket", "socketserver", "time"}


def imports(path: Path) -> set[str]:
    """Return the top-level names of every module that ``path`` imports, wherever it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: str(path.stem))
def test_rooms_import_neither_the_front_door_nor_sockets_nor_clocks(room: Path) -> None:
    allowed = {"select", "selectors", "socket"} if room.stem in ("system", "selector") else set()
    assert not imports(room) & (IO | {"udp2tls", "stunnel_compat"}) - allowed


@pytest.mark.parametrize("room", COMPAT, ids=lambda path: str(path.stem))
def test_compatibility_depends_on_the_product_and_has_no_sockets(room: Path) -> None:
    assert not imports(room) & IO


def test_the_front_door_does_not_import_compatibility_at_the_top() -> None:
    tree = ast.parse((ROOT / "udp2tls.py").read_text(encoding="utf-8"))
    tops = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    tops |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert not any(name.startswith("stunnel_compat") for name in tops)


def test_the_front_door_reads_the_clock() -> None:
    assert {"socket", "time"} <= imports(ROOT / "udp2tls.py")


@pytest.mark.parametrize("room", ["wire", "edns", "framing", "codec", "pending", "link", "loop", "stream"])
def test_the_lower_rooms_do_not_import_the_upper_ones(room: str) -> None:
    upper = {"cli", "clients", "config", "delivery", "demo", "links", "log", "lookup", "toml"}
    source = (ROOT / "_udp2tls" / f"{room}.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    for node in tree.body:  # imports for annotations alone stand inside "if TYPE_CHECKING"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("_udp2tls"):
            names = {alias.name for alias in node.names} | {(node.module or "").partition(".")[2]}
            assert not names & upper


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: str(path.stem))
def test_every_room_has_its_test_file_and_its_line_on_the_map(room: Path) -> None:
    if room.stem != "__init__":
        assert (ROOT / "tests" / f"test_{room.stem}.py").exists()
        assert f"\n    {room.stem} " in (_udp2tls.__doc__ or "")


@pytest.mark.parametrize("path", [ROOT / "udp2tls.py", *ROOMS, *COMPAT], ids=lambda path: str(path.stem))
def test_files_are_short_and_open_with_their_theory(path: Path) -> None:
    with tokenize.open(path) as file:
        source = file.read()
    assert len(source.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(source))
