"""The shape of Windows on Linux: without what Windows lacks, with the selector it has.

As a plugin of pytest (``-p tests.shape``) it takes away, before anything is imported, what
Windows does not have, and counts what is skipped for it. Forwarders that tests start get the
same: ``python tests/shape.py udp2tls.py ...`` is what runs them then (``tests.peers.programs``).
Test files that reach none of this are the same in every shape, and left out.

It is no Windows: ``sys.platform`` stays, and so does the kernel. See tests/windows for more.
"""

from __future__ import annotations

import ast
import asyncio.selector_events
import functools
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

# Set for the processes that tests start.
VARIABLE = "UDP2TLS_SHAPE"

MODULES = ("fcntl", "grp", "pwd", "resource")
SIGNALS = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGQUIT")
SOCKETS = ("AF_UNIX", "SO_REUSEPORT", "TCP_USER_TIMEOUT", "IPV6_RECVPKTINFO", "send_fds", "recv_fds")
METHODS = ("sendmsg", "recvmsg", "recvmsg_into", "sendmsg_afalg")

ROOT = Path(__file__).parents[1]
# Who imports one of these, or imports who does, may see the difference.
AFFECTED = {"asyncio", "select", "selectors", "signal", "socket", "socketserver", "ssl", *MODULES}

# Who imported what is taken away did so for its own use: these only have to exist before.
_USERS = (asyncio.selector_events, subprocess)


class _Missing:
    """A method that is not there, in a class whose base has it."""

    def __get__(self, instance: object, owner: type) -> Any:
        raise AttributeError("not on Windows")


def _socketpair() -> tuple[socket.socket, socket.socket]:
    """Make a pair over TCP, as Python does on Windows."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    return near, far


def take_away() -> None:
    """Make this process look like one on Windows."""
    socket.socketpair = _socketpair  # type: ignore[assignment]
    asyncio.selector_events._HAS_SENDMSG = False  # type: ignore[attr-defined]
    selectors.DefaultSelector = selectors.SelectSelector  # type: ignore[misc, assignment]
    for module, names in (
        (select, ("epoll", "poll", "kqueue")), (signal, SIGNALS), (socket, SOCKETS),
        (selectors, ("EpollSelector", "KqueueSelector")),
    ):  # fmt: skip
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    for name in METHODS:
        setattr(socket.socket, name, _Missing())
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    os.environ[VARIABLE] = "windows"


@functools.cache
def _imports(file: Path) -> frozenset[str]:
    """Return the dotted names that a file imports, wherever it does; a name from a module may be a module too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update((node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)))
    return frozenset(found)


def is_affected(test: Path) -> bool:
    """True when a file of tests, or anything of this tree that it imports, knows what is taken away."""
    seen: set[Path] = set()
    waiting = [test]
    while waiting:
        file = waiting.pop()
        if file in seen or not file.exists():
            continue
        seen.add(file)
        names = _imports(file)
        if any(name.partition(".")[0] in AFFECTED for name in names):
            return True
        for name in names:
            path = ROOT.joinpath(*name.split("."))
            waiting += [path.with_suffix(".py"), path / "__init__.py"]
    return False


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    affected = {path: is_affected(path) for path in {item.path for item in items}}
    config.hook.pytest_deselected(items=[item for item in items if not affected[item.path]])
    items[:] = [item for item in items if affected[item.path]]


def pytest_configure(config: Any) -> None:
    from _udp2tls import selector

    assert isinstance(selector.best_selector(), selector.Select), "the program was imported too early"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    passed = terminalreporter.stats.get("passed", ())
    skipped = terminalreporter.stats.get("skipped", ())
    elsewhere = sum("Windows only" in str(one.longrepr) or "Wine only" in str(one.longrepr) for one in skipped)
    said = f"{len(passed)} passed, {len(skipped) - elsewhere} skipped for what Windows lacks"
    terminalreporter.write_sep("=", f"the shape of Windows: {said}, {elsewhere} for what only Windows has", bold=True)


take_away()

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
    runpy.run_path(sys.argv[0], run_name="__main__")
