"""Log lines: what they say, and what they must not say."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import udp2tls
from _udp2tls import log, upstream
from _udp2tls.config import Config, UpstreamSpec
from tests.fakes import World, answer, query


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="udp2tls")
    return caplog


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """Give the program's logger, and leave it as it was."""
    one = logging.getLogger("udp2tls")
    kept = one.handlers[:], one.propagate, one.level
    yield one
    one.handlers[:], one.propagate, one.level = kept


def live(world: World) -> None:
    """Answer one query, let one time out, break a connection."""
    stream = world.client()
    world.ask(query("secret.example", 1))
    world.turns()
    world.link.feed(answer(world.link.frames()[0]))
    stream.feed(query("secret.example", 2))
    world.turns()
    world.link.ended = True
    world.later(5.0)


def test_importing_configures_nothing() -> None:
    """In a process of its own, for other tests run the program and set up its log."""
    source = "import logging, udp2tls as u; raise SystemExit(len(logging.root.handlers + u.log._log.handlers))"
    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0


def test_names_and_clients_are_not_logged_unless_asked_for(lines: pytest.LogCaptureFixture) -> None:
    live(World())
    assert lines.messages
    assert "secret" not in lines.text
    assert "40001" not in lines.text


def test_log_queries_names_queries_answers_and_clients(lines: pytest.LogCaptureFixture) -> None:
    live(World(log_queries=True))
    assert "127.0.0.1 port 40001 > secret.example., type 1, 32 bytes" in lines.messages
    assert "127.0.0.1 port 40001 < secret.example., type 1, rcode 0, 48 bytes" in lines.messages
    assert "(tcp) > secret.example., type 1, 32 bytes" in lines.messages
    assert "(tcp) < secret.example., type 1, rcode 2, 32 bytes" in lines.messages


def test_hostile_names_cannot_break_a_line(lines: pytest.LogCaptureFixture) -> None:
    hostile = query("a")[:12] + b"\5a\nb\x1b.\1\0\0\0\1\0\1"
    log.query(hostile, len(hostile), None)
    assert lines.messages == [f"(tcp) > a\\010b\\027\\046.\\000., type 1, {len(hostile)} bytes"]


def test_a_connection_says_when_it_came_and_why_it_went(lines: pytest.LogCaptureFixture) -> None:
    live(World())
    came = [message for message in lines.messages if message.startswith("connected to")]
    went = [message for message in lines.messages if message.startswith("connection to")]
    assert "tls://192.0.2.53#one.example at 192.0.2.53:853" in came[0]
    assert "handshake" in came[0]
    assert "2 queries, 1 answers: closed by the upstream; 1 queries will be sent again" in went[0]


def test_an_outage_does_not_fill_the_log(lines: pytest.LogCaptureFixture) -> None:
    world = World()

    def refuse(address: object) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    world.on_open = refuse  # type: ignore[assignment]
    for number in range(250):
        world.ask(query(id=number))
        world.later(0.1)
    warnings = [record for record in lines.records if record.levelno >= logging.WARNING]
    assert 2 <= len(warnings) <= 4, "one line for the connection, one for the queries; repeated after 30 s"
    assert any("connection refused" in record.getMessage() for record in warnings)


def test_setup_writes_one_line_an_event_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("udp2tls")
    try:
        log.setup("warning")
        log.note("too quiet to hear")
        log.unanswered(3, "no answer")
        said = capsys.readouterr()
    finally:
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    assert said.out == ""
    assert said.err.endswith(" WARNING 3 queries got SERVFAIL: no answer\n")
    assert said.err.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Unix only: an open file is moved away")
def test_a_log_file_is_appended_to_and_opened_anew_when_it_was_moved_away(tmp_path: Path) -> None:
    file = tmp_path / "udp2tls.log"
    file.write_text("before\n")
    logger = logging.getLogger("udp2tls")
    kept = logger.handlers[:], logger.propagate, logger.level
    try:
        log.setup("info", str(file))
        log.note("one")
        file.rename(tmp_path / "old.log")
        log.note("two")
        log.reopen()
        log.note("three")
        assert "three" in file.read_text()
        assert "two" in (tmp_path / "old.log").read_text()
        assert (tmp_path / "old.log").read_text().startswith("before\n")
        log.setup("info", str(file), overwrite=True)
        log.note("four")
        assert "three" not in file.read_text()
        log.reopen()
        log.note("five")
        assert "four" in file.read_text(), "what was overwritten once is appended to from then on"
    finally:
        for handler in logger.handlers:
            handler.close()
        logger.handlers[:], logger.propagate, logger.level = kept[0], kept[1], kept[2]


@pytest.mark.skipif(sys.platform == "win32", reason="Unix only: an open file is moved away")
def test_a_log_file_that_cannot_be_opened_anew_is_written_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "udp2tls.log"
    logger = logging.getLogger("udp2tls")
    handler = logging.FileHandler(path)
    monkeypatch.setattr(logger, "handlers", [handler])
    path.rename(tmp_path / "old.log")
    monkeypatch.setattr(handler, "baseFilename", str(tmp_path / "missing" / "udp2tls.log"))
    try:
        log.reopen()
        log.note("still here")
    finally:
        handler.close()
    written = (tmp_path / "old.log").read_text()
    assert "cannot be opened anew, the old file is written on: No such file or directory" in written
    assert "still here" in written



def test_without_standard_streams_the_program_is_silent_and_goes_on(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under pythonw.exe."""
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert udp2tls.main(["-l", "nonsense"]) == 2
    assert udp2tls.main(["--check"]) == 0
    with pytest.raises(SystemExit) as caught:
        udp2tls.main(["--help"])
    assert caught.value.code == 0
    monkeypatch.setattr(sys, "stderr", None)
    log.setup("info")
    log.note("nobody hears it")


def test_what_a_code_page_cannot_say_is_escaped(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    out, err = (io.TextIOWrapper(io.BytesIO(), "cp1252", errors="strict", write_through=True) for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setattr(logging, "raiseExceptions", True)
    log.setup("info")
    log.note("\u0414\u041d\u0421 and \u00fc")
    assert udp2tls.main(["-l", "\u0430\u0434\u0440\u0435\u0441"]) == 2
    print("\u2192")
    said = err.buffer.getvalue()
    assert b"\\u0414\\u041d\\u0421 and \xfc" in said
    assert b"\\u0430\\u0434" in said
    assert b"Traceback" not in said
    assert out.buffer.getvalue().startswith(b"\\u2192")
    log.setup("info", str(tmp_path / "log"))
    log.note("a name of a file that is no text: \udcff")
    assert "\\udcff" in (tmp_path / "log").read_text(encoding="utf-8")
    logger.handlers[0].close()


def test_hashes_of_a_stamp_are_counted(lines: pytest.LogCaptureFixture) -> None:
    spec = UpstreamSpec("192.0.2.1", 853, "dot.example", frozenset([bytes(32)]))
    (one,) = upstream.build(Config(upstreams=(spec,)))
    log.forwarding(one, 1)
    assert lines.messages == [
        "upstream 1: tls://192.0.2.1#dot.example, certificate must be for dot.example, 1 hash(es)"
    ]


def test_a_worker_says_which_it_is(capsys: pytest.CaptureFixture[str], logger: logging.Logger) -> None:
    log.setup("info")
    log.supervising(2)
    log.worker(2)
    log.note("something happened")
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(" INFO 2 workers serve, this process supervises them")
    assert second.endswith(" INFO worker 2: something happened")
