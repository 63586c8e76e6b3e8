"""download: one file, or one sentence; never more time, or more bytes, than there are."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from _udp2tls import download
from _udp2tls.config import Config, Endpoint, parse_upstream
from _udp2tls.download import Downloader, DownloadError, End, Target, _Wire, exchange
from tests import authority
from tests.fakes import Clock

MOST = 1000
URL = "https://mirror.example/v3/list.md"
TARGET = Target.parse(URL)
OK = b"HTTP/1.1 200 OK\r\n"


class Server:
    """A connection whose peer says ``pieces``, one a read, each ``pause`` seconds after the one before."""

    def __init__(self, clock: Clock, pieces: Iterable[bytes], pause: float = 0.0) -> None:
        self.clock, self.pieces, self.pause = clock, iter(pieces), pause
        self.rest: deque[int] = deque()
        self.sent = b""
        self.timeout = 0.0
        self.given = 0

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0
        self.timeout = seconds

    def sendall(self, data: bytes) -> None:
        self.sent += data

    def recv_into(self, buffer: Any) -> int:
        if not self.rest:
            if self.pause > self.timeout:
                self.clock.now += self.timeout
                raise TimeoutError("timed out")
            self.clock.now += self.pause
            self.rest.extend(next(self.pieces, b""))
        count = min(len(buffer), len(self.rest))
        buffer[:count] = bytes(self.rest.popleft() for _ in range(count))
        self.given += count
        return count


def ask(*pieces: bytes, pause: float = 0.0, most: int = MOST, endless: bytes = b"") -> tuple[str, bytes]:
    """Return what is made of the answer; ``endless`` is repeated after it for ever."""
    clock = Clock()
    end = clock() + 30

    def left() -> float:
        if clock() >= end:
            raise End("it took longer than 30 s")
        return end - clock()

    def all_pieces() -> Iterable[bytes]:
        yield from filter(None, pieces)  # an empty one would be the end
        while endless:
            yield endless

    server = Server(clock, all_pieces(), pause)
    try:
        return exchange(_Wire(server, left, most + most // 8 + download.HEADER), TARGET, most)
    finally:
        assert clock() <= end + 0.001
        assert server.given <= most + most // 8 + download.HEADER + 8192


def refusal(*pieces: bytes, **how: Any) -> str:
    with pytest.raises((DownloadError, End)) as caught:
        ask(*pieces, **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 5\r\n\r\nhello", OK + b"\r\nhello", OK + b"Content-Length: 5\r\n\r\nhello, and more",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nA: b\r\n\r\n",
        OK + b"Content-Encoding: identity\r\n\r\nhello", b"HTTP/1.0 200\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\nhello",
    ],
)  # fmt: skip
def test_a_file_in_one_piece_or_byte_by_byte(answer: bytes) -> None:
    assert ask(answer) == ("", b"hello")
    assert ask(*(bytes([byte]) for byte in answer)) == ("", b"hello")


def test_what_is_asked() -> None:
    server = Server(Clock(), [OK + b"\r\n"])
    target = Target.parse("https://mirror.example:8443/a b/\u00e9?x=1&y=%20#fragment")
    exchange(_Wire(server, lambda: 1.0, MOST), target, MOST)
    head, *lines, _, _ = server.sent.decode().split("\r\n")
    assert head == "GET /a%20b/%C3%A9?x=1&y=%20 HTTP/1.1"
    assert sorted(lines) == [
        "Accept-Encoding: identity", "Connection: close", "Host: mirror.example:8443", "User-Agent: udp2tls"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("url", "host"),
    [(URL, "mirror.example"), ("https://[2001:db8::1]/x", "[2001:db8::1]"), ("https://192.0.2.1:444/", "192.0.2.1:444"),
     ("https://B\u00fccher.example/x", "xn--bcher-kva.example")],
)  # fmt: skip
def test_the_host_header_is_the_urls(url: str, host: str) -> None:
    server = Server(Clock(), [OK + b"\r\n"])
    exchange(_Wire(server, lambda: 1.0, MOST), Target.parse(url), MOST)
    assert f"\r\nHost: {host}\r\n" in server.sent.decode()


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://mirror.example/list.md", "this is not https://HOST/PATH"),
        ("file:///etc/passwd", "this is not https://HOST/PATH"),
        ("https:///list.md", "this is not https://HOST/PATH"),
        ("https://me:secret@mirror.example/", "a URL with a user's name or password is not asked for"),
        ("https://mirror.example:99999/", "this is no URL"),
        ("https://[::1/", "this is no URL"),
        ("https://mirror.example/\ud800", "this is no URL"),
        ("https://mirror.example:0/", "the host or port of the URL is none"),
        ("https://mirror..example/", "the host or port of the URL is none"),
        ("https://a b.example/", "the host or port of the URL is none"),
    ],
)
def test_a_url_that_is_not_asked_for(url: str, reason: str) -> None:
    with pytest.raises(DownloadError) as caught:
        Target.parse(url)
    assert str(caught.value) == reason


def test_no_url_breaks_out_of_its_line() -> None:
    path = Target.parse("https://mirror.example/a\x0bb c\x7f?d\x01\u2028").path
    assert path == "/a%0Bb%20c%7F?d%01%E2%80%A8"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "Remote end closed connection without response"),
        (b"SSH-2.0-x\r\n", "the server's answer cannot be read (BadStatusLine)"),
        (b"HTTP/1.1 abc\r\n\r\n", "the server's answer cannot be read (BadStatusLine)"),
        (b"HTTP/1.1 404 \x1b[31mred\r\n\r\n", "the server says 404"),
        (b"HTTP/1.1 206 Part\r\n\r\nhello", "the server says 206"),
        (b"HTTP/1.1 304 Same\r\n\r\n", "the server says 304"),
        (b"HTTP/1.1 302 Gone\r\n\r\n", "the server says 302 and not where to go"),
        (OK + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b", "the server has packed the file, which nobody asked for"),
        (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
         "the server sends the file in an encoding that nobody asked for"),
        (OK + b"Content-Length: 10\r\n\r\nhello", "the connection ended after 5 of 10 bytes"),
        (OK + b"Content-Length: 1001\r\n\r\n", "the file has 1001 bytes, and 1000 are the most"),
        (OK + b"\r\n" + b"x" * 1001, "the file has more than 1000 bytes"),
        (OK + b"Content-Length: -3\r\n\r\n" + b"x" * 1001, "the file has more than 1000 bytes"),
        (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n" + b"x" * 1001, "the file has more than 1000 bytes"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "the server's answer cannot be read (IncompleteRead)"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nab", "the server's answer cannot be read (IncompleteRead)"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabcde", "the server's answer cannot be read (ValueError)"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n7fffffff\r\n" + b"x" * 2000, "the file has more than 1000 bytes"),
        (OK + b"A: b\r\n" * 101 + b"\r\n", "the server's answer cannot be read (HTTPException)"),
        (OK + b"A: " + b"x" * 65536 + b"\r\n\r\n", "the server's answer cannot be read (LineTooLong)"),
    ],
)
def test_answers_that_are_no_file(answer: bytes, reason: str) -> None:
    assert refusal(answer) == reason


@pytest.mark.parametrize(
    ("begin", "endless", "reason"),
    [
        (OK, b"A: b\r\n", "(HTTPException)"),
        (OK + b"A: ", b"x" * 1000, "(LineTooLong)"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", "sends without end"),
        (b"", b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n", "sends without end"),
        (OK + b"\r\n", b"x" * 100, "more than 1000 bytes"),
        (OK + b"Content-Length: 7\r\n\r\n", b"x", ""),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 500 + b"\r\ny\r\n", "sends without end"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\ny\r\n", "more than 1000 bytes"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n", "sends without end"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", b"A: b\r\n", "sends without end"),
    ],
)
def test_a_server_without_end(begin: bytes, endless: bytes, reason: str) -> None:
    if reason:
        assert reason in refusal(begin, endless=endless)
    else:
        assert ask(begin, endless=endless) == ("", b"xxxxxxx")


@pytest.mark.parametrize("begin", [b"", OK, OK + b"Content-Length: 900\r\n\r\n", OK + b"\r\n"])
@pytest.mark.parametrize("pause", [0.5, 29.0])
def test_a_server_that_drips_has_no_more_time_than_any(begin: bytes, pause: float) -> None:
    reason = refusal(begin, pause=pause, endless=b"x")
    assert reason in ("it took longer than 30 s", "no answer in time")


def test_a_connection_that_breaks_is_said() -> None:
    def broken() -> Iterable[bytes]:
        yield OK
        raise ConnectionResetError(104, "Connection reset by peer")

    server = Server(Clock(), broken())
    with pytest.raises(DownloadError, match=r"^Connection reset by peer$"):
        exchange(_Wire(server, lambda: 1.0, MOST), TARGET, MOST)


# From here on with real TLS, over a pair of sockets.

Answer = Callable[[bytes], bytes]


class Peers:
    """Connects to a server in a thread each; answers are by request line. ``connected`` are the addresses."""

    def __init__(self, certs: authority.Authority, answers: dict[str, bytes], *, kind: str = "server") -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(getattr(certs, f"{kind}_cert"), getattr(certs, f"{kind}_key"))
        self.context.sni_callback = self._note
        self.answers = answers
        self.connected: list[tuple[Endpoint, float]] = []
        self.names: list[str | None] = []
        self.refusing: set[str] = set()
        self.silent: set[str] = set()
        self.dripping: set[str] = set()
        self.ours: list[socket.socket] = []
        self._kept: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def _note(self, sock: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        self.names.append(name)

    def connect(self, endpoint: Endpoint, timeout: float) -> socket.socket:
        self.connected.append((endpoint, timeout))
        if endpoint.host in self.refusing:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = socket.socketpair()
        ours.settimeout(timeout)
        self.ours.append(ours)
        if endpoint.host in self.silent:
            self._kept.append(theirs)
        else:
            serve = self._drip if endpoint.host in self.dripping else self._serve
            thread = threading.Thread(target=serve, args=(theirs,), daemon=True)
            thread.start()
            self._threads.append(thread)
        return ours

    def _serve(self, sock: socket.socket) -> None:
        sock.settimeout(5)
        try:
            with self.context.wrap_socket(sock, server_side=True) as secure:
                request = secure.recv(4096).decode().split(" ")[1]
                secure.sendall(self.answers.get(request, b"HTTP/1.1 404 None\r\n\r\n"))
        except OSError:
            pass  # it does not trust us

    def _drip(self, sock: socket.socket) -> None:
        """Send a TLS record of 16 KiB, one byte in 10 ms."""
        with sock, contextlib.suppress(OSError):
            sock.sendall(b"\x16\x03\x03\x40\0")
            sock.settimeout(0.01)
            said = b"?"
            while said:  # until the client hangs up
                sock.sendall(b"\0")
                with contextlib.suppress(TimeoutError):
                    said = sock.recv(4096)

    def close(self) -> None:
        for thread in self._threads:
            thread.join(5)
        for sock in self._kept:
            sock.close()
        assert all(sock.fileno() < 0 for sock in self.ours), "a socket was left open"


NAME = authority.NAME
BASE = f"https://{NAME}"
CONFIG = Config(upstreams=(parse_upstream("tls://192.0.2.1"),))


def trusting(certs: authority.Authority, ca_file: str = "") -> ssl.SSLContext:
    return download.context(Config(upstreams=CONFIG.upstreams, ca_file=ca_file or certs.ca_file))


def getting(peers: Peers, certs: authority.Authority, *addresses: str, limit: float = 5.0) -> Downloader:
    found = {NAME: list(addresses), "other.example": ["192.0.2.9"]}
    return Downloader(
        lambda host: (found.get(host, []), "no such name"), trusting(certs), time.monotonic,
        connect=peers.connect, limit=limit,
    )  # fmt: skip


def body(text: str) -> bytes:
    return OK + f"Content-Length: {len(text)}\r\n\r\n{text}".encode()


def moved(to: str, code: int = 301) -> bytes:
    return f"HTTP/1.1 {code} Moved\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


def test_a_file_from_the_first_address_that_serves(certs: authority.Authority) -> None:
    peers = Peers(certs, {"/list.md": body("hello")})
    peers.refusing = {"192.0.2.1", "2001:db8::1"}
    one = getting(peers, certs, "192.0.2.1", "2001:db8::1", "192.0.2.2", "192.0.2.3")
    assert one.get(f"{BASE}/list.md", MOST) == b"hello"
    assert [str(endpoint) for endpoint, _ in peers.connected] == [
        "192.0.2.1:443", "[2001:db8::1]:443", "192.0.2.2:443"
    ]  # fmt: skip
    assert peers.names == [NAME]
    peers.close()


def test_an_address_that_is_silent_has_its_share_of_the_time(certs: authority.Authority) -> None:
    peers = Peers(certs, {"/list.md": body("hello")})
    peers.silent = {"192.0.2.1"}
    one = getting(peers, certs, "192.0.2.1", "192.0.2.2", limit=1.0)
    assert one.get(f"{BASE}/list.md", MOST) == b"hello"
    first, second = (timeout for _, timeout in peers.connected)
    assert 0.4 < first <= 0.5
    assert 0.3 < second <= 0.5
    peers.close()


def test_a_handshake_that_drips_has_its_share_of_the_time_too(certs: authority.Authority) -> None:
    peers = Peers(certs, {"/list.md": body("hello")})
    peers.dripping = {"192.0.2.1"}
    began = time.monotonic()
    assert getting(peers, certs, "192.0.2.1", "192.0.2.2", limit=1.0).get(f"{BASE}/list.md", MOST) == b"hello"
    assert time.monotonic() - began < 1.0
    with pytest.raises(DownloadError, match=r"^it took longer than 0\.3 s$"):
        getting(peers, certs, "192.0.2.1", limit=0.3).get(f"{BASE}/list.md", MOST)
    peers.close()


def test_all_addresses_fail_in_one_sentence_and_a_thousand_are_not_tried(certs: authority.Authority) -> None:
    addresses = [f"192.0.2.{number}" for number in range(1, 200)]
    peers = Peers(certs, {})
    peers.refusing = set(addresses)
    with pytest.raises(DownloadError) as caught:
        getting(peers, certs, *addresses).get(f"{BASE}/list.md", MOST)
    assert str(caught.value).startswith("192.0.2.1: Connection refused; 192.0.2.2: Connection refused; ")
    assert len(peers.connected) == download.ADDRESSES
    with pytest.raises(DownloadError, match=r"^cannot find the address of nowhere\.example: no such name$"):
        getting(peers, certs).get("https://nowhere.example/", MOST)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("expired", "certificate has expired"), ("wrong_name", "Hostname mismatch"),
        ("other", "unable to get local issuer"), ("self_signed", "self-signed certificate"),
    ],
)  # fmt: skip
def test_a_server_that_cannot_prove_its_name_is_asked_for_nothing(
    kind: str, reason: str, certs: authority.Authority
) -> None:
    peers = Peers(certs, {"/list.md": body("hello")}, kind=kind)
    with pytest.raises(DownloadError, match=f"^192.0.2.1: certificate refused: {reason}"):
        getting(peers, certs, "192.0.2.1").get(f"{BASE}/list.md", MOST)
    peers.close()


def test_a_name_in_the_url_may_be_an_address_which_the_certificate_must_have(certs: authority.Authority) -> None:
    peers = Peers(certs, {"/list.md": body("hello")})
    one = getting(peers, certs)
    assert one.get("https://127.0.0.1/list.md", MOST) == b"hello"
    assert one.get("https://[::1]:8443/list.md", MOST) == b"hello"
    assert [endpoint for endpoint, _ in peers.connected] == [Endpoint("127.0.0.1", 443), Endpoint("::1", 8443)]
    assert peers.names == [None, None]
    with pytest.raises(DownloadError, match="IP address mismatch"):
        one.get("https://192.0.2.1/list.md", MOST)
    peers.close()


def test_a_peer_that_is_gone_before_the_handshake_gets_no_plain_text(certs: authority.Authority) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    one = Downloader(lambda host: ([], ""), trusting(certs), Clock(), connect=lambda at, timeout: ours)
    with pytest.raises(DownloadError, match=r"^127\.0\.0\.1: "):
        one.get("https://127.0.0.1/list.md", MOST)
    assert ours.fileno() < 0


def test_redirects_are_followed_to_https_three_times(certs: authority.Authority) -> None:
    answers = {"/a": moved("/b"), "/b": moved("c?d", 307), "/c?d": moved(f"{BASE}:444/e", 308), "/e": body("hello")}
    peers = Peers(certs, answers)
    one = getting(peers, certs, "192.0.2.1")
    assert one.get(f"{BASE}/a", MOST) == b"hello"
    assert [endpoint.port for endpoint, _ in peers.connected] == [443, 443, 443, 444]
    answers["/e"] = moved("/a")
    with pytest.raises(DownloadError, match="to another place more than 3 times"):
        one.get(f"{BASE}/a", MOST)
    peers.close()


@pytest.mark.parametrize(
    "to", ["http://dot.test.example/a", "HTTP://x/", "file:///etc/passwd", "ftp://x/y", "https://[", "javascript:"]
)
def test_redirects_to_anything_else_are_refused(to: str, certs: authority.Authority) -> None:
    peers = Peers(certs, {"/a": moved(to)})
    with pytest.raises(DownloadError, match="the server sends us to something that is no"):
        getting(peers, certs, "192.0.2.1").get(f"{BASE}/a", MOST)
    assert len(peers.connected) == 1
    peers.close()


def test_a_redirect_to_another_name_is_held_to_that_name(certs: authority.Authority) -> None:
    peers = Peers(certs, {"/a": moved("https://other.example/b"), "/b": body("hello")})
    with pytest.raises(DownloadError, match="Hostname mismatch"):
        getting(peers, certs, "192.0.2.1").get(f"{BASE}/a", MOST)
    assert peers.names == [NAME, "other.example"]
    peers.close()


def test_files_are_trusted_as_upstreams_are_but_shown_no_certificate_of_ours(certs: authority.Authority) -> None:
    made = download.context(
        Config(upstreams=CONFIG.upstreams, ca_file=certs.ca_file, client_cert="/none", client_key="/none")
    )
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.check_hostname
    assert made.minimum_version is ssl.TLSVersion.TLSv1_2
    assert len(made.get_ca_certs()) == 1
