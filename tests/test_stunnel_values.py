"""The readers of values: what stunnel 5.68 takes, and its words for the rest."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stunnel_compat import values
from stunnel_compat.options import TABLE
from stunnel_compat.values import Bad

READ: list[tuple[values.Reader, str, object]] = [
    (values.yes_no, "YES", True), (values.yes_no, "no", False),
    (values.choice("words", "rr", "prio"), "PRIO", "prio"),
    (values.number("words", 0, 4), "+2", 2), (values.number("words"), "-1", -1), (values.number("words"), " 007", 7),
    (values.number("words"), "9" * 5000, (1 << 31) - 1), (values.number("words"), "-" + "9" * 50, 1 - (1 << 31)),
    (values.retry, "yes", "yes"), (values.retry, "500", "500"),
    (values.debug, "7", 7), (values.debug, "Warning", 4),
    (values.global_debug, "daemon.notice", 5), (values.global_debug, "LOCAL7.3", 3),
    (values.global_debug, "daemon.notice.x", 5), (values.global_debug, "info", 6),
    (values.version, "ALL", 0), (values.version, "tlsv1.2", 0x303),
    (values.tls_option, "no_tlsv1_3", (False, "NO_TLSV1_3")), (values.tls_option, "-NO_SSLv3", (True, "NO_SSLV3")),
    (values.tls_option, "NO_TLSv1.1", (False, "NO_TLSV1_1")),
    (values.suites, "TLS_AES_128_GCM_SHA256", ("TLS_AES_128_GCM_SHA256",)),
    (values.curves, "X25519:P-256", ("X25519", "P-256")), (values.curves, "ffdhe2048", ("ffdhe2048",)),
    (values.socket_option, "r:TCP_NODELAY=yes", ("r", "TCP_NODELAY", 1)),
    (values.socket_option, "a:SO_RCVBUF=4096", ("a", "SO_RCVBUF", 4096)),
    (values.socket_option, "l:SO_LINGER=1:60", ("l", "SO_LINGER", 1)),
    (values.socket_option, "a:SO_BINDTODEVICE=eth0", ("a", "SO_BINDTODEVICE", 0)),
    (values.ocsp_flag, "NOCERTS", "nocerts"), (values.ticket_key("words"), "0a" * 16, "0a" * 16),
    (values.ticket_key("words"), ":".join(["0A"] * 32), ":".join(["0A"] * 32)),
    (values.command, "MINPROTOCOL:TLSv1.2", ("minprotocol", 0x303)),
    (values.command, "CipherString:HIGH", ("cipherstring", "HIGH")), (values.command, "Groups:X", ("groups", None)),
]  # fmt: skip

REFUSED: list[tuple[values.Reader, str, str]] = [
    *((values.yes_no, text, "The argument needs to be either 'yes' or 'no'") for text in ("1", "true", "", "yes # x")),
    (values.choice("words", "rr"), "xx", "words"),
    *((values.number("Bad verify level", 0, 4), text, "Bad verify level") for text in ("5", "-1", "", "2 x", "0x1")),
    (values.number("words"), "٢", "words"),
    (values.retry, "-5", "The argument needs"), (values.retry, "maybe", "The argument needs"),
    *((values.debug, text, "Illegal debug level") for text in ("8", "daemon.notice", "", "loud", "07")),
    *((values.global_debug, text, "Illegal debug level") for text in ("daemon.", "daemon.8")),
    *((values.global_debug, text, "Illegal syslog facility") for text in ("x.info", ".", "7 # x (info). x")),
    *((values.version, text, "Invalid protocol version") for text in ("SSLv2", "TLSv1.9", "1.2", "")),
    *((values.tls_option, text, "Illegal TLS option") for text in ("NO_FOO", "--NO_SSLv3", "", "ü", "NO_TLSv1_9")),
    *((values.suites, text, "no cipher match") for text in ("FOO", "", "AES256-SHA", "TLS_AES_128_GCM_SHA256:")),
    *((values.curves, text, "Invalid groups list in 'curves'") for text in ("nope", "", "p-256", "P-256:nope")),
    *((values.socket_option, text, "Illegal socket option") for text in (
        "x:TCP_NODELAY=1", "r:TCP_NODELAY", "r:tcp_nodelay=1", "r:SO_FOO=1", "r:TCP_NODELAY=2", "r: TCP_NODELAY=1",
        "r:SO_RCVBUF=0x10", "r:SO_LINGER=1:x", "", ":", "TCP_NODELAY=1")),
    (values.ocsp_flag, "NOTHING", "Illegal OCSP flag"),
    *((values.ticket_key("words"), text, "words") for text in ("x", "", "0a" * 15, "0a" * 17, "0a" * 33, "0g" * 16)),
    (values.command, "MinProtocol:tlsv1.2", "Invalid protocol version"),
]  # fmt: skip


@pytest.mark.parametrize(("read", "text", "value"), READ)
def test_what_is_meant(read: values.Reader, text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(("read", "text", "words"), REFUSED)
def test_what_is_wrong_is_said_in_stunnels_words(read: values.Reader, text: str, words: str) -> None:
    with pytest.raises(Bad) as caught:
        read(text)
    assert caught.value.problem.startswith(words)
    assert caught.value.remedy


def test_a_facility_in_a_section_is_explained() -> None:
    with pytest.raises(Bad) as caught:
        values.debug("daemon.notice")
    assert "before the first [section]" in caught.value.remedy


READERS: Any = st.sampled_from([option.read for option in TABLE] + [values.global_debug])


@settings(max_examples=300)
@given(READERS, st.text(max_size=12) | st.from_regex(r"[-+a-zA-Z0-9:.=_]{0,20}", fullmatch=True))
def test_readers_raise_nothing_else(read: values.Reader, text: str) -> None:
    with contextlib.suppress(Bad):
        read(text)
