"""What --check says of a stunnel.conf."""

from __future__ import annotations

import shlex

import pytest

from _udp2tls import cli
from stunnel_compat import explain, meaning, parser
from tests.stunnel_confs.reading import GOOD, HERE, SYSTEM, of, service

VERIFIED = "verifyChain = yes\nCAfile = a.pem\n"


def said(text: str, *wanted: str, without_ocsp: bool = False) -> str:
    return explain.explain(of(text, *wanted, without_ocsp=without_ocsp))


def test_a_good_file_line_by_line() -> None:
    lines = "checkHost = dns.example\nTIMEOUTclose = 0\n"
    report = said(f"pid = x.pid\nfips = no\nCAfile = b.pem\n[dns]\n{GOOD}{VERIFIED}{lines}")
    assert report.split("\n")[0] == "f.conf: runs [dns]"
    assert "  honoured  pid = x.pid  (the process number is written there)\n" in report
    assert "  ignored   fips = no  (this asks for nothing)\n" in report
    assert "  outdone   CAfile = b.pem" in report
    assert "\n[dns]  f.conf:4\n" in report
    assert "  ignored   TIMEOUTclose = 0  (udp2tls closes at once)\n" in report
    assert report.endswith("udp2tls -l 127.0.0.1:53 -u 'tls://192.0.2.1#dns.example' --ca-file a.pem")


def test_a_line_that_is_outdone_says_by_which() -> None:
    assert "  outdone   cert = a.pem  (by line 6)\n" in said(f"[dns]\n{GOOD}cert = a.pem\ncert = b.pem\n")


def test_all_refusals_are_shown_with_their_lines() -> None:
    report = said(f"foo = 1\n[dns]\n{GOOD}OCSPaia = yes\nverify = 5\nno equals\nlibwrap = yes\n")
    assert report.split("\n")[0] == "f.conf: refused, 5 mistakes or refusals"
    for line in (
        "wrong     foo = 1  (see below)", "refused   OCSPaia = yes  (", "wrong     verify = 5  (see below)",
        "wrong     no equals  (see below)", "refused   libwrap = yes  (", "f.conf:8: No '=' found",
    ):  # fmt: skip
        assert f"\n  {line}" in report
    assert "without stunnel.conf" not in report


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("delay = yes", "names are looked up at each connection"), ("delay = no", "asks for nothing"),
        ("failover = rr", "each in turn"), ("failover = PRIO", "the first that works"),
    ],
)  # fmt: skip
def test_what_is_said_is_said_of_the_value_there_is(line: str, meaning: str) -> None:
    assert f"  honoured  {line}  ({meaning})\n" in said(f"[dns]\n{GOOD}{line}\n")


def test_an_inline_comment_is_explained() -> None:
    report = said("[dns]\nclient = yes\naccept = 127.0.0.1:53\nconnect = 192.0.2.1:853 #Japan\n")
    assert "why it is refused:" in report
    assert 'stunnel knows no comments after a value: "#Japan" became part of it.' in report
    assert "write: connect = 192.0.2.1:853" in report


def test_sections_that_are_not_run() -> None:
    text = f"[a]\n{GOOD}[b]\naccept = 1\nconnect = 2\n"
    assert "[b]  f.conf:5: not run, not named by --service" in said(text, "a")
    assert "[b]  f.conf:5: refused, see below\n" in said(text)


def test_ocsp_done_without() -> None:
    report = said(f"[dns]\n{GOOD}{VERIFIED}OCSPaia = yes\n", without_ocsp=True)
    assert "  ignored   OCSPaia = yes  (as --without-ocsp wishes" in report


def test_an_address_left_out_is_listed_as_such() -> None:
    assert "  ignored   connect = 192.0.2.2  (left out, as stunnel does" in said(f"[dns]\n{GOOD}connect = 192.0.2.2\n")


@pytest.mark.parametrize(
    ("lines", "words", "differs"),
    [
        ("", "-u tls://192.0.2.1", "verifies nothing"),
        (VERIFIED, "-u tls://192.0.2.1 --ca-file a.pem", "also verifies that the certificate is for the host"),
        (VERIFIED + "checkHost = a.b", "-u tls://192.0.2.1#a.b --ca-file a.pem", ""),
        (VERIFIED + "checkIP = 192.0.2.1", "-u tls://192.0.2.1 --ca-file a.pem", ""),
        (VERIFIED + "checkHost = a.b\ncheckIP = 192.0.2.7", "-u tls://192.0.2.1#a.b --ca-file a.pem", "not 192.0.2.7"),
        (VERIFIED + "checkEmail = a@b", "-u tls://192.0.2.1 --ca-file a.pem", "no such name, so not a@b"),
        ("verifyPeer = yes\nCAfile = a.pem\ncheckHost = a.b", "-u tls://192.0.2.1#a.b --ca-file a.pem", "--pin"),
        ("verifyChain = yes\nCApath = /etc/ssl/certs\ncheckHost = a.b", "-u tls://192.0.2.1#a.b", "the system's store"),
        ("verifyChain = yes\nCApath = d\ncheckHost = a.b", "-u tls://192.0.2.1#a.b", "in one --ca-file"),
        (VERIFIED + "checkHost = a.b\nCRLfile = c", "-u tls://192.0.2.1#a.b --ca-file a.pem", "revocation lists"),
        (VERIFIED + "checkHost = a.b\ncert = c\nkey = k",
         "-u tls://192.0.2.1#a.b --ca-file a.pem --client-cert c --client-key k", ""),
        (VERIFIED + "checkHost = a.b\nfailover = rr\nconnect = [::1]:8853",
         "-u tls://192.0.2.1#a.b -u tls://[::1]:8853#a.b --strategy rotate --ca-file a.pem", ""),
        (VERIFIED + "checkHost = a.b\nsni = c", "-u tls://192.0.2.1#a.b --ca-file a.pem", "no option for sni"),
        (VERIFIED + "checkHost = a.b\nlocal = ::1\nTIMEOUTidle = 5", "-u tls://192.0.2.1#a.b --ca-file a.pem",
         "no option for local, the time limits"),
    ],
)  # fmt: skip
def test_the_command_line_instead(lines: str, words: str, differs: str) -> None:
    given, differences = explain.command(service(lines))
    assert " ".join(given) == f"udp2tls -l 127.0.0.1:53 {words}"
    assert len(differences) == bool(differs)
    assert differs in "".join(differences)


def test_a_name_no_url_can_carry_is_told() -> None:
    made = service("connect = a..b:853")
    _, differences = explain.command(made)
    assert any("a..b cannot be written in a URL" in line for line in differences)


def test_commands_are_understood_by_udp2tls() -> None:
    for path in sorted(HERE.glob("*.conf")):
        made = meaning.interpret(parser.read(str(path)), SYSTEM)
        for line in explain.explain(made).split("\n"):
            if line.startswith("    udp2tls "):
                assert cli.read(cli.parser().parse_args(shlex.split(line)[1:]), {})
