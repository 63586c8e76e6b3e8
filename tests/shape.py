"""The shape of Windows on Linux: without what Windows lacks, with the selector it has.

As a plugin of pytest (``-p tests.shape``) it takes away, before anything is imported, what
Windows does not have, and counts what is skipped for it. Forwarders that tests start get the
same: ``python tests/shape.py udp2tls.py ...`` is what runs them then (``tests.peers.programs``).

It is no Windows: ``sys.platform`` stays, and so does the kernel. See tests/windows for more.
"""

from __future__ import annotations

import asyncio.selector_events
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
from typing import Any

# Set for the processes that tests start.
VARIABLE = "UDP2TLS_SHAPE"

MODULES = ("fcntl", "grp", "pwd", "resource")
SIGNALS = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGQUIT")
SOCKETS = ("AF_UNIX", "SO_REUSEPORT", "TCP_USER_TIMEOUT", "IPV6_RECVPKTINFO", "send_fds", "recv_fds")
METHODS = ("sendmsg", "recvmsg", "recvmsg_into", "sendmsg_afalg")

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
