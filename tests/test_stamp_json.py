"""stamp_json: stamps as JSON and back, and the command that prints them."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import udp2tls
from _udp2tls import stamp_json, stamps
from _udp2tls.stamps import Pair, Stamp, StampError
from tests.test_stamps import TEST_HASH, VECTORS, some_stamps

DOT = "sdns://AwcAAAAAAAAADDEuMS4xLjE6ODg1MyDDhGvyS56TymQnTA7GfB7MXgJP_KzS10AZNQ6B_lRq5BJjbG91ZGZsYXJlLWRucy5jb20"
AS_JSON = {
    "protocol": "DoT", "dnssec": True, "no_logs": True, "no_filter": True, "address": "1.1.1.1:8853",
    "hashes": [TEST_HASH], "host": "cloudflare-dns.com", "bootstrap": [],
}  # fmt: skip
PAIR = "sdns://gRE5NC4xOTguNDEuMjM1OjQ0Mw/" + next(iter(VECTORS))


def test_the_members_are_the_fields_of_the_kind() -> None:
    assert stamp_json.to_json(stamps.parse(DOT)) == AS_JSON
    assert list(stamp_json.to_json(stamps.parse(DOT))) == list(AS_JSON)
    pair = stamp_json.to_json(stamps.parse_pair(PAIR))
    assert pair["relay"] == {"protocol": "DNSCrypt relay", "address": "94.198.41.235:443"}
    assert pair["server"]["provider"] == "2.dnscrypt.default.ns1.adguard.com"


@pytest.mark.parametrize("stamp", [*VECTORS.values(), stamps.parse_pair(PAIR)])
def test_published_stamps_as_json_and_back(stamp: Stamp | Pair) -> None:
    assert stamp_json.from_json(json.loads(json.dumps(stamp_json.to_json(stamp)))) == stamp


@given(some_stamps())
def test_every_stamp_as_json_and_back(stamp: Stamp) -> None:
    made = stamp_json.to_json(stamp)
    assert stamp_json.from_json(made) == stamp
    text = stamp_json.convert(stamps.format(stamp), None)
    assert json.loads(text) == made
    assert stamp_json.convert(text, None) == stamps.format(stamp)


def test_what_is_left_out_is_empty_or_false() -> None:
    one = stamp_json.from_json({"protocol": "DoT", "host": "dot.example"})
    assert one == Stamp(stamps.Kind.DOT, host="dot.example")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*AS_JSON, "relay", "server"]), inner),
)


@given(json_values, st.dictionaries(st.sampled_from([*AS_JSON, "key", "path", "relay"]), json_values))
def test_no_value_raises_anything_else(value: Any, changes: dict[str, Any]) -> None:
    for one in value, {**AS_JSON, **changes}:
        with contextlib.suppress(StampError):
            stamp_json.from_json(one)


@given(st.text() | st.text().map("{".__add__) | st.text().map('{"protocol":"DoT","host":'.__add__))
def test_no_text_raises_anything_else(text: str) -> None:
    with contextlib.suppress(StampError):
        stamp_json.convert(text, io.StringIO(text))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "a list is not a stamp"), (None, "null is not a stamp"), ({}, "'protocol' is missing or unknown"),
        ({"protocol": "dot"}, "one of plain DNS, DNSCrypt, DoH"), ({"protocol": ["DoT"]}, "'protocol' is missing"),
        ({**AS_JSON, "port": 853}, "a stamp of DoT has no 'port'\n  it has protocol, dnssec, no_logs,"),
        ({**AS_JSON, "key": "00"}, "a stamp of DoT has no 'key'"), ({**AS_JSON, "kind": 3}, "has no 'kind'"),
        ({**AS_JSON, "dnssec": 1}, "'dnssec' is a number\n  it should be true or false"),
        ({**AS_JSON, "dnssec": "true"}, "'dnssec' is a text"), ({**AS_JSON, "host": None}, "'host' is null"),
        ({**AS_JSON, "host": True}, "'host' is true or false\n  it should be a text"),
        ({**AS_JSON, "hashes": TEST_HASH}, "'hashes' is a text\n  it should be a list"),
        ({**AS_JSON, "hashes": [TEST_HASH, 1]}, "'hashes' is a number"), ({**AS_JSON, "host": {}}, "is an object"),
        ({**AS_JSON, "hashes": ["c3 84"]}, "'hashes' is not hexadecimal"),
        ({**AS_JSON, "hashes": ["c384\n"]}, "'hashes' is not hexadecimal"),
        ({**AS_JSON, "hashes": ["c384"]}, "a hash is 2 bytes long"),
        ({**AS_JSON, "bootstrap": ["x"]}, "'x' is not an IP address"),
        ({"relay": AS_JSON}, "'server' is not a stamp"), ({"relay": 1, "server": AS_JSON}, "'relay' is not a stamp"),
        ({"relay": {"relay": AS_JSON, "server": AS_JSON}, "server": AS_JSON}, "'relay' is not a stamp"),
        ({"relay": AS_JSON, "server": AS_JSON}, "DoT first and DoT second do not go together"),
        ({"relay": AS_JSON, "server": AS_JSON, "x": 1}, "have no 'x'"),
    ],
)  # fmt: skip
def test_what_is_no_stamp_is_refused_with_a_sentence(given: object, said: str) -> None:
    with pytest.raises(StampError) as caught:
        stamp_json.from_json(given)
    assert said in str(caught.value)
    assert caught.value.remedy


def test_the_command_prints_json_for_a_stamp_and_a_stamp_for_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert udp2tls.main(["--stamp", DOT]) == 0
    text = capsys.readouterr().out
    assert text == json.dumps(AS_JSON, indent=2) + "\n"
    assert udp2tls.main(["--stamp", text]) == 0
    assert capsys.readouterr().out == DOT + "\n"
    for typed, said in ((text, DOT + "\n"), (f" {DOT}\r\n", text)):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        assert udp2tls.main(["--stamp", "-"]) == 0
        assert capsys.readouterr().out == said
    assert udp2tls.main(["--stamp", PAIR]) == 0
    assert udp2tls.main(["--stamp", capsys.readouterr().out]) == 0
    assert capsys.readouterr().out == PAIR + "\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "udp2tls: --stamp: neither a stamp nor JSON\n"),
        ("dns.example", "udp2tls: --stamp: neither a stamp nor JSON\n    dns.example\n    ~~~~~~~~~~^\n"),
        ("sdns://AA", "udp2tls: --stamp: it ends 8 bytes too early\n    sdns://AA\n            ~^"[:-4]),
        ("sdns://AA/AA", "udp2tls: --stamp: it ends 8 bytes too early"),
        ("{", "udp2tls: --stamp, line 1: not JSON: Expecting property name"),
        ('{"protocol":\n "DoT",,}', "--stamp, line 2: not JSON: Expecting property name"),
        ('{"protocol": "DoT"}', "udp2tls: --stamp: '' is neither a host name nor an IP address"),
        ('{"protocol": "DoT", "host": "a", "host": "b"}', "udp2tls: --stamp: 'host' stands there twice"),
        ('{"a": ' + "[" * 100_000, "udp2tls: --stamp: not JSON"),
        ('{"a": ' + "1" * 10_000 + "}", "udp2tls: --stamp: not JSON"),
        ("{} {}", "--stamp, line 1: not JSON: Extra data\n    {} {}\n       ^"),
    ],
)
def test_the_command_exits_2_and_says_what_is_wrong(text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert udp2tls.main(["--stamp", text]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert len(captured.err) < 1500


def test_standard_input_may_be_missing_or_no_text() -> None:
    with pytest.raises(StampError, match="neither a stamp nor JSON"):
        stamp_json.convert("-", None)
    with pytest.raises(StampError, match="standard input cannot be read"):
        stamp_json.convert("-", io.TextIOWrapper(io.BytesIO(b"\xff"), encoding="utf-8"))


def test_who_has_no_stamp_does_not_load_them() -> None:
    program = "import sys, udp2tls; udp2tls.main(['--check', '-u', 'tls://192.0.2.1']); print([*sys.modules])"
    root = Path(__file__).parent.parent
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert "_udp2tls.config" in loaded
    assert "_udp2tls.stamp" not in loaded
