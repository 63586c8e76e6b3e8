"""The run: a line for everything that was found to be so, in order. Status 1 when something was not.

``--suite``: the suite alone, which does not care how long it takes; ``--no-suite``: all but that.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests import authority
from tests.peers import asking, programs, scripted
from tests.windows import obtain
from tests.windows.wine import Wine, kill, windows_path

ROOT = Path(__file__).parents[2]

# Left out: what builds a wheel (Wine 8 has no CopyFile2), what needs Linux's openssl, and stunnel's ways.
SUITE = (
    "answers", "cli", "clients", "codec", "config", "daemon", "delivery", "demo", "dialer", "edns", "framing",
    "hedge", "identity", "link", "links", "log", "lookup", "loop", "nssm", "opinions", "path", "pending", "process",
    "recovery", "service", "stream", "surroundings", "system", "tls", "toml", "truststore", "udp2tls", "upstream",
    "windows_errors", "wire",
)  # fmt: skip
QUERIES = 1500

_began = time.monotonic()


def ok(what: str) -> None:
    print(f"OK  {time.monotonic() - _began:5.1f} s  {what}", flush=True)


def until(true: Callable[[], object], what: str, seconds: float = 15.0) -> float:
    """Wait until ``true()`` is; return how long that took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + seconds, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - began


class Nssm:
    """The service, by its commands and by its log file."""

    def __init__(self, wine: Wine, folder: Path, port: int) -> None:
        self.wine, self.folder, self.port = wine, folder, port
        self.log_file = folder / "udp2tls.log"

    @property
    def log(self) -> str:
        if not self.log_file.exists():
            return ""
        return self.log_file.read_text(encoding="utf-8").replace("\r\n", "\n")

    def __call__(self, *command: str) -> str:
        print("        > nssm", *command)
        said = self.wine.run("nssm", *command)[1].strip()
        print(f"        {said}")
        return said

    @property
    def state(self) -> str:
        return self.wine.run("nssm", "status", "udp2tls")[1].strip()

    def answers(self) -> bool:
        """True when it answers over UDP and over TCP."""
        for ask in (asking.ask_udp, asking.ask_tcp):
            message = asking.make_query("n7.test.example")
            try:
                if not asking.is_right(message, ask(self.port, message, timeout=2)):
                    return False
            except OSError:
                return False
        return True


def suite(wine: Wine) -> None:
    files = [f"tests/test_{name}.py" for name in SUITE]
    status, said = wine.run(
        wine.python, "-B", "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *files,
        folder=ROOT, timeout=170, variables={"PYTHONUTF8": "1"},
    )  # fmt: skip
    if status:
        print(said)
    assert not status, f"the suite ended with status {status} under Windows' Python"
    ok(f"the suite under Windows' Python: {said.strip().splitlines()[-1].strip('= ')}")


def install(nssm: Nssm, upstream: int, ca_file: Path) -> None:
    """Install the service with the very lines that ``--nssm`` prints, run by cmd.exe."""
    options = [
        "-l", f"127.0.0.1:{nssm.port}", "-u", f"tls://127.0.0.1:{upstream}#{authority.NAME}",
        "--ca-file", windows_path(ca_file), "--nssm",
    ]  # fmt: skip
    status, said = nssm.wine.run(nssm.wine.python, str(ROOT / "udp2tls.py"), *options, folder=nssm.folder)
    assert not status, said
    lines = said.splitlines()
    assert lines[-1] == "nssm start udp2tls"
    print("\n".join(f"        {line}" for line in lines))
    # By itself the service would start with the next program that Wine runs, wanted or not.
    lines.insert(-1, "nssm set udp2tls Start SERVICE_DEMAND_START")
    (nssm.folder / "install.bat").write_text("\r\n".join(["@echo off", *lines, ""]))
    said = nssm.wine.run("cmd", "/c", "install.bat", folder=nssm.folder)[1]
    print("\n".join(f"        {line}" for line in said.splitlines()))
    until(lambda: "listening on" in nssm.log, "the service listens")
    ok("installed and started with the commands of --nssm, a space in every path")


def cycle(nssm: Nssm, server: scripted.Server) -> None:
    assert nssm.state == "SERVICE_RUNNING"
    assert nssm.answers()
    ok("answers over UDP and over TCP")
    tally = asyncio.run(asking.Asker.ask(nssm.port, QUERIES / 5, 5))
    assert tally.right == tally.sent >= QUERIES, str(tally)
    ok(f"{tally.right} of {tally.sent} queries answered rightly, over {server.accepted} connection(s)")
    stop(nssm)
    nssm("set", "udp2tls", "AppRotateBytes", "1")
    nssm("start", "udp2tls")
    until(nssm.answers, "it answers again")
    old = sorted(nssm.folder.glob("udp2tls-*.log"))
    assert len(old) == 1, old
    assert "stopped" not in nssm.log
    ok(f"started again; the old log is kept as {old[0].name}")
    time.sleep(2)  # what dies within nssm's 1.5 s is started again later each time, and Wine may forget it
    number = kill(f"127.0.0.1:{nssm.port}")
    took = until(nssm.answers, "it is back", 30)
    ok(f"killed (process {number}); answers again after {took:.1f} s")
    stop(nssm)


def stop(nssm: Nssm) -> None:
    """Stop the service; the clock runs from before nssm is started until the program's last line."""
    began = time.monotonic()
    command = threading.Thread(target=nssm, args=("stop", "udp2tls"))
    command.start()
    until(lambda: "INFO stopping: " in nssm.log, "it hears of it", 5)
    heard = time.monotonic()
    until(lambda: nssm.log.endswith(" INFO stopped\n"), "the log ends with 'stopped'", 5)
    ended = time.monotonic()
    command.join(20)
    assert ended - heard < 1.0, f"stopping took {ended - heard:.1f} s"
    until(lambda: nssm.state == "SERVICE_STOPPED", "the service manager knows", 5)
    (reason,) = re.findall(r"INFO stopping: (\w+)", nssm.log)
    ok(f"stopped cleanly: {reason} came {heard - began:.2f} s after the command, all done {ended - heard:.2f} s later")


def bad_configuration(nssm: Nssm) -> None:
    nssm("set", "udp2tls", "AppParameters", windows_path(ROOT / "udp2tls.py"), "--listen", "nonsense")
    nssm("set", "udp2tls", "AppRotateFiles", "0")
    before = nssm.log.count("'nonsense' is not an IP address")
    nssm("start", "udp2tls")
    until(lambda: nssm.state == "SERVICE_STOPPED", "the service ends for good")
    time.sleep(4)  # nssm would try again after 1 and 2 seconds
    tries = nssm.log.count("'nonsense' is not an IP address") - before
    assert tries == 1, f"started {tries} times"
    assert nssm.state == "SERVICE_STOPPED"
    ok("a bad configuration (exit status 2) is tried once, said in the log, and the service is stopped")
    nssm("remove", "udp2tls", "confirm")


def main() -> int:
    try:
        obtain.everything()
    except obtain.Unobtainable as error:
        print(f"SKIPPED: nothing was tested on Windows, for a download failed:\n{error}")
        return 0
    folder = Path(tempfile.mkdtemp(prefix="run ", dir=obtain.CACHE))
    try:
        certs = authority.make(folder)
        with (
            Wine(obtain.CACHE, folder / "prefix") as wine,
            scripted.Server(scripted.serve, scripted.good_context(certs)) as server,
        ):
            said = wine.run(wine.python, "-c", "import ssl, sys; print(sys.version, ssl.OPENSSL_VERSION, sep=', ')")[1]
            ok(f"Python {said.strip()}; {wine.run('cmd', '/c', 'ver')[1].strip()}")
            if "--no-suite" not in sys.argv:
                suite(wine)
            if "--suite" in sys.argv:
                return 0
            (folder / "my dns").mkdir()
            nssm = Nssm(wine, folder / "my dns", programs.free_port())
            try:
                install(nssm, server.port, Path(certs.ca_file))
                cycle(nssm, server)
                bad_configuration(nssm)
            except BaseException:
                print(f"--- the service's log:\n{nssm.log[-6000:]}")
                raise
    except AssertionError as error:
        print(f"FAILED: {error}")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ok("all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
