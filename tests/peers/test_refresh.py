"""Lists from a real HTTPS server, while the real program goes on answering."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import udp2tls
from _udp2tls import renewal, sources, stamps, workers
from _udp2tls.config import parse_upstream
from _udp2tls.stamps import Kind, Stamp
from tests import authority
from tests.peers import asking, mirror, programs, scripted
from tests.test_minisign import Signer, flipped

pytestmark = pytest.mark.peers

SIGNER = Signer()
LIMIT = 1.5


def signed(port: int, timestamp: int) -> tuple[bytes, bytes]:
    """Return a list with one server, that at the port, and its signature."""
    stamp = stamps.format(Stamp(Kind.DOT, address=f"127.0.0.1:{port}", host=authority.NAME))
    data = f"# Servers\n\n## one\n\nA server.\n\n{stamp}\n".encode()
    return data, SIGNER.sign(data, timestamp=timestamp, file="list.md", prehashed=True)


def knowing_the_mirror(connection: scripted.Connection) -> None:
    """Answer rightly, and that the mirror is on this machine."""
    for query in connection.queries():
        if asking.question_of(query)[:-4].lower() == asking.wire_name(authority.NAME):
            question = asking.question_of(query)
            if question[-4:-2] == b"\0\1":
                record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1"
                connection.send(query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question + record)
                continue
        connection.answer(query)


@contextlib.contextmanager
def upstream(certs: authority.Authority) -> Iterator[scripted.Server]:
    with scripted.Server(knowing_the_mirror, scripted.good_context(certs)) as server:
        yield server


def program(
    folder: Path, certs: authority.Authority, port: int, *urls: str, count: int = 1, limit: float = LIMIT
) -> programs.Program:
    listen = programs.free_port()
    said = {
        "listen": f"127.0.0.1:{listen}", "upstreams": [f"tls://127.0.0.1:{port}#{authority.NAME}"],
        "ca_file": certs.ca_file, "cache_file": str(folder / "cache.md"), "key": SIGNER.line, "urls": urls,
        "workers": count, "limit": limit,
    }  # fmt: skip
    command = [sys.executable, str(Path(__file__).parent / "with_lists.py"), json.dumps(said)]
    ready = f"listening on 127.0.0.1:{listen},"
    return programs.Program(
        "udp2tls", command, folder, listen, lambda one: one.log.count(ready) >= count, programs.clean_environment()
    )


def answered_by(server: scripted.Server, port: int) -> bool:
    """True when a query from now on goes to that server."""
    before = len(server.queries)
    message = asking.make_query("n1.test.example")
    assert asking.is_right(message, asking.ask_udp(port, message))
    return len(server.queries) > before


def store(folder: Path, pair: tuple[bytes, bytes], age: float) -> None:
    for name, data in zip(("cache.md", "cache.md.minisig"), pair):
        (folder / name).write_bytes(data)
    os.utime(folder / "cache.md", (time.time() - age, time.time() - age))


def stored(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "cache.md").read_bytes(), (folder / "cache.md.minisig").read_bytes()


def test_a_list_is_fetched_through_our_upstream_and_its_server_is_asked(
    certs: authority.Authority, tmp_path: Path
) -> None:
    with upstream(certs) as one, upstream(certs) as two, mirror.Mirror(certs) as web:
        pair = signed(two.port, 1000)
        web.serve(pair)
        with program(tmp_path, certs, one.port, web.url()) as running:
            scripted.wait_until(lambda: "was read anew" in running.log)
            scripted.wait_until(lambda: answered_by(two, running.port))
            assert stored(tmp_path) == pair
            assert re.search(r"source test: a new list, 1 entries, signed \d+\.\d days ago", running.log)
            assert web.asked == ["/list.md", "/list.md.minisig"]
            assert set(web.names) == {f"{authority.NAME}:{web.port}"}
            asked = {asking.question_of(query)[:-4] for query in one.queries}
            assert asking.wire_name(authority.NAME) in asked
            time.sleep(1)
            assert len(web.asked) == 2, "it is good for days"


@pytest.mark.parametrize("which", [0, 1])
def test_a_flipped_byte_is_refused_and_the_old_list_goes_on(
    which: int, certs: authority.Authority, tmp_path: Path
) -> None:
    with upstream(certs) as one, upstream(certs) as two, mirror.Mirror(certs) as web:
        old, new = signed(one.port, 1000), signed(two.port, 2000)
        store(tmp_path, old, 1e6)
        bad = list(new)
        bad[which] = flipped(bad[which], 80, 2)
        web.serve((bad[0], bad[1]))
        with program(tmp_path, certs, one.port, web.url()) as running:
            scripted.wait_until(lambda: "not renewed" in running.log)
            assert answered_by(one, running.port)
            time.sleep(1.5)
            assert len(web.asked) >= 4
            assert running.log.count("not renewed") == 1, "one line for many refusals"
            assert stored(tmp_path) == old
            web.serve(new)
            scripted.wait_until(lambda: "was read anew" in running.log)
            scripted.wait_until(lambda: answered_by(two, running.port))
            assert stored(tmp_path) == new


@pytest.mark.parametrize("script", [mirror.silence, mirror.drip, mirror.flood])
def test_a_bad_mirror_costs_its_time_and_no_query(
    script: mirror.Script, certs: authority.Authority, tmp_path: Path
) -> None:
    """The loop answers all the while, and the next mirror is asked then."""
    with upstream(certs) as one, mirror.Mirror(certs) as web:
        pair = signed(one.port, 2000)
        store(tmp_path, signed(one.port, 1000), 1e6)
        web.files["/bad/list.md"] = script
        web.serve(pair)
        with program(tmp_path, certs, one.port, web.url("/bad/list.md"), web.url()) as running:
            scripted.wait_until(lambda: "/bad/list.md" in web.asked)
            began = time.monotonic()
            waits: list[float] = []
            while "a new list" not in running.log:
                message = asking.make_query(asking.numbered(len(waits)))
                asked = time.monotonic()
                assert asking.is_right(message, asking.ask_udp(running.port, message))
                waits.append(time.monotonic() - asked)
                assert time.monotonic() - began < LIMIT + 10
                time.sleep(0.002)
            waits.sort()
            print(f"{len(waits)} queries, median {waits[len(waits) // 2] * 1e3:.2f} ms, worst {waits[-1] * 1e3:.1f} ms")
            assert len(waits) >= 10  # a flood is over when it has sent too much
            # Two cores, and others on them: a stall would be the whole time of the download.
            assert waits[len(waits) * 9 // 10] < 0.1
            assert waits[-1] < LIMIT / 2
            assert stored(tmp_path) == pair


@pytest.mark.parametrize("kind", ["expired", "wrong_name", "other", "self_signed"])
def test_a_mirror_that_cannot_prove_its_name_is_asked_for_nothing(
    kind: str, certs: authority.Authority, tmp_path: Path
) -> None:
    with upstream(certs) as one, mirror.Mirror(certs, kind) as web:
        web.serve(signed(one.port, 1000))
        with program(tmp_path, certs, one.port, web.url()) as running:
            scripted.wait_until(lambda: "there is no list yet" in running.log)
            assert "127.0.0.1: certificate refused: " in running.log
        assert web.asked == []


def test_when_no_upstream_answers_the_name_is_looked_up_otherwise(certs: authority.Authority, tmp_path: Path) -> None:
    """The way out when the servers of the last list are gone: here the mirror has an address for a name."""
    with upstream(certs) as one, mirror.Mirror(certs) as web:
        pair = signed(one.port, 1000)
        web.serve(pair)
        url = f"https://localhost:{web.port}/list.md"
        by_address = f"https://127.0.0.1:{web.port}/list.md"
        with program(tmp_path, certs, programs.free_port(), url, by_address, limit=8) as running:
            scripted.wait_until(lambda: "was read anew" in running.log, 20)
            scripted.wait_until(lambda: answered_by(one, running.port))
        assert stored(tmp_path) == pair


def test_the_first_list_is_had_before_anything_runs(certs: authority.Authority, tmp_path: Path) -> None:
    with mirror.Mirror(certs) as web:
        pair = signed(853, 1000)
        web.serve(pair)
        one = sources.Source(
            "test", cache_file=str(tmp_path / "cache.md"), minisign_key=SIGNER.line,
            urls=[web.url("/none/list.md"), f"https://127.0.0.1:{web.port}/list.md"],
        )  # fmt: skip
        config = udp2tls.Config(upstreams=(parse_upstream("tls://127.0.0.1"),), ca_file=certs.ca_file)
        assert renewal.first([one], config, udp2tls.Forwarder) == []
    assert one.listing is not None
    assert stored(tmp_path) == pair


def test_the_program_stops_at_once_while_a_mirror_is_silent(certs: authority.Authority, tmp_path: Path) -> None:
    with upstream(certs) as one, mirror.Mirror(certs) as web:
        web.files["/list.md"] = mirror.silence
        with program(tmp_path, certs, one.port, web.url(), limit=30) as running:
            scripted.wait_until(lambda: web.asked)
            began = time.monotonic()
            running.signal(signal.SIGTERM)
            assert running.process.wait(10) == 0
            assert time.monotonic() - began < 3
            assert "Traceback" not in running.log
        assert not list(tmp_path.glob("cache.md*"))


@pytest.mark.skipif(
    sys.platform != "linux" or not workers.available(), reason="one port has several processes on Linux alone"
)
def test_of_several_workers_one_downloads_and_all_change_over(certs: authority.Authority, tmp_path: Path) -> None:
    with upstream(certs) as one, upstream(certs) as two, mirror.Mirror(certs) as web:
        web.serve(signed(two.port, 1000))
        with program(tmp_path, certs, one.port, web.url(), count=3) as running:
            scripted.wait_until(lambda: running.log.count("was read anew") == 3)
            time.sleep(0.5)
            before = len(one.queries)
            for serial in range(60):
                message = asking.make_query(asking.numbered(serial))
                assert asking.is_right(message, asking.ask_udp(running.port, message))
            assert len(one.queries) == before
            assert web.asked == ["/list.md", "/list.md.minisig"]
            assert len(set(re.findall(r"worker (\d): source test: a new list", running.log))) == 3
            # Who downloads dies: its replacement takes over, with what is stored by then.
            web.serve(signed(one.port, 2000))
            pid = int(Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()[0])
            os.kill(pid, signal.SIGKILL)
            scripted.wait_until(lambda: running.log.count("listening on") >= 7)
            running.signal(signal.SIGTERM)
            assert running.process.wait(10) == 0
            assert "Traceback" not in running.log


def toml(folder: Path, certs: authority.Authority, listen: int, url: str) -> Path:
    path = folder / "udp2tls.toml"
    path.write_text(
        f'listen = "127.0.0.1:{listen}"\nca_file = "{certs.ca_file}"\n'
        "require_nolog = false\nrequire_nofilter = false\n"
        f'[sources.test]\nurls = ["{url}"]\ncache_file = "list.md"\nminisign_key = "{SIGNER.line}"\n',
        encoding="utf-8",
    )
    return path


def test_a_first_start_from_a_file_downloads_its_list_and_a_second_one_needs_no_mirror(
    certs: authority.Authority, tmp_path: Path
) -> None:
    listen = programs.free_port()
    with upstream(certs) as one:
        pair = signed(one.port, 1000)
        with mirror.Mirror(certs) as web:
            web.serve(pair)
            path = toml(tmp_path, certs, listen, f"https://127.0.0.1:{web.port}/list.md")
            command = [sys.executable, udp2tls.__file__, str(path)]

            def ready(running: programs.Program) -> bool:
                return "listening on" in running.log

            with programs.Program("first", command, tmp_path, listen, ready, programs.clean_environment()) as running:
                assert "no list of servers is here yet: downloading, once" in running.log
                assert answered_by(one, listen)
            assert web.asked == ["/list.md", "/list.md.minisig"]
        assert ((tmp_path / "list.md").read_bytes(), (tmp_path / "list.md.minisig").read_bytes()) == pair
        with programs.Program("second", command, tmp_path, listen, ready, programs.clean_environment()) as running:
            assert answered_by(one, listen)
            assert "downloading" not in running.log


def test_a_first_start_without_a_network_fails_with_the_reason_and_a_check_says_what_to_do(
    certs: authority.Authority, tmp_path: Path
) -> None:
    path = toml(tmp_path, certs, programs.free_port(), f"https://127.0.0.1:{programs.free_port()}/list.md")
    for more, status, said in (
        ((), 1, "there is no list of servers, and none could be had:\n  source test: https://127.0.0.1:"),
        (("--check",), 2, "there is no upstream among what the file names"),
    ):
        command = [sys.executable, udp2tls.__file__, str(path), *more]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, env=programs.clean_environment()
        )
        assert done.returncode == status, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr
