"""What a whole file asks for; the published files; and the verdicts of the real stunnel."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _udp2tls.config import ConfigError
from _udp2tls.process import Process
from stunnel_compat import explain, meaning, parser
from stunnel_compat.meaning import Meaning
from stunnel_compat.options import BY_KEY
from tests.stunnel_confs.reading import GOOD, HERE, SHARED, SYSTEM, of


def first(made: Meaning) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        made.check()
    return str(caught.value).split("\n")


def test_the_process() -> None:
    before = (
        "chroot = jail\nsetuid = me\nsetgid = 65534\noutput = dns.log\nlog = OVERWRITE\npid = /run/x\nPID = p.pid\n"
        "debug = daemon.debug\nforeground = Quiet\n"
    )
    made = of(f"{before}[dns]\n{GOOD}")
    assert made.process == Process(
        "debug", "dns.log", True, "p.pid", "me", "65534", "jail", ("debug: the facility is ignored, it is syslog's",)
    )
    assert not made.errors
    made.check()


@pytest.mark.parametrize(
    ("level", "expected"),
    [("0", "error"), ("err", "error"), ("4", "warning"), ("notice", "info"), ("7", "debug"), ("", "info")],
)
def test_levels(level: str, expected: str) -> None:
    assert of(f"{f'debug = {level}' if level else ''}\n[dns]\n{GOOD}").process.log_level == expected


def test_what_is_ignored_is_noted() -> None:
    made = of(f"syslog = yes\nfips = no\nEGD = x\nlog = append\n[dns]\n{GOOD}")
    assert len(made.process.notes) == 5  # and that udp2tls stays in the foreground
    assert of(f"output = a ; b\n[dns]\n{GOOD}").warnings


def test_defaults_are_inherited_and_sections_are_independent() -> None:
    text = f"CAfile = a.pem\nverifyChain = yes\n[one]\n{GOOD}cert = c.pem\n[two]\nclient = yes\naccept = 54\n"
    one, two = of(text + "connect = 853\nverifyChain = no\n").services
    assert (one.checks.chain, one.checks.ca_file, one.cert) == (True, "a.pem", "c.pem")
    assert (two.checks.chain, two.checks.ca_file, two.cert) == (False, "a.pem", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"[dns]\n{GOOD}foo = bar", "f.conf:5: Specified option name is not valid here"),
        (f"[dns]\n{GOOD}verifyChian = yes", "f.conf:5: Specified option name is not valid here"),
        (f"[dns]\n{GOOD}syslog = no", "f.conf:5: Specified option name is not valid here"),
        (f"[dns]\n{GOOD}= x", "f.conf:5: Specified option name is not valid here"),
        (f"setuid = nobody-here\n[dns]\n{GOOD}", "f.conf:1: Illegal UID"),
        (f"fips = yes\n[dns]\n{GOOD}", "f.conf:1: fips is not supported"),
        (f"engine = auto\n[dns]\n{GOOD}", "f.conf:1: engine is not supported"),
        (f"debug = 8\n[dns]\n{GOOD}", "f.conf:1: Illegal debug level"),
        (f"[dns]\n{GOOD}debug = daemon.notice", "f.conf:5: Illegal debug level"),
        ("; nothing", "f.conf: Inetd mode: TLS server needs a certificate"),
        (GOOD, "f.conf:2: Inetd mode: 'accept' option is only allowed in a [section]"),
        ("client = yes\nconnect = 853", "f.conf: Inetd mode: "),
        ("[dns]\naccept = 53\nconnect = 853", "f.conf:1: Service [dns]: a server section"),
        (f"client = yes # x\n[a]\n{GOOD}", "f.conf:1: The argument needs to be either 'yes' or 'no'"),
        (f"[a]\n{GOOD}[b]\n{GOOD}", "f.conf:5: Binding service [b] failed"),
    ],
)
def test_mistakes(text: str, said: str) -> None:
    made = of(text)
    lines = first(made)
    assert lines[0].startswith(said)
    assert len(made.errors) == 1
    assert made.errors[0].remedy


def test_names_nearly_right_are_suggested_and_levels_explained() -> None:
    assert "did you mean verifyChain?" in of(f"[dns]\n{GOOD}verifyChian = yes").errors[0].remedy
    assert "before the first [section]" in of(f"[dns]\n{GOOD}pid = x").errors[0].remedy


def test_all_mistakes_are_found_in_stunnels_order_and_those_of_defaults_once() -> None:
    text = "OCSPaia = yes\nfoo = 1\n[a]\nclient = yes\nbar\naccept = 53\n[b]\nclient = yes\naccept = 54\nconnect = x"
    made = of(text)
    where = [error.where.removeprefix("f.conf:") for error in made.errors]
    assert where == ["2", "5", "1", "3", "10"]
    assert first(made)[-1] == "  (4 more mistakes; udp2tls --check f.conf shows all)"


def test_an_address_of_another_service_is_left_out_when_others_remain() -> None:
    made = of("client = yes\nconnect = 853\naccept = 127.0.0.1:1\n[a]\n[b]\naccept = 127.0.0.1:2\n")
    assert [service.accept for service in made.services] == [(("127.0.0.1", 1),), (("127.0.0.1", 2),)]
    assert "left out" in made.services[1].warnings[-1]


SERVER = f"[a]\n{GOOD}[b]\naccept = 853\nconnect = 53\ncert = c.pem\n[c]\nbroken = 1\n"


def test_server_sections_are_refused_unless_others_are_named() -> None:
    assert "--service 'a'" in of(SERVER).errors[0].remedy
    made = of(SERVER, "a")
    assert not made.errors
    assert [service.name for service in made.services] == ["a"]
    assert [outcome.skipped for outcome in made.outcomes] == ["", *["not named by --service"] * 2]
    lines = first(of(SERVER, "a", "x"))
    assert lines == ["--service: there is no section [x] in f.conf", "  its sections are: a, b, c"]
    assert "f.conf:5" in first(of(SERVER, "b"))[0]
    assert "No '=' found" in first(of(SERVER + "[d\n", "a"))[0]


def test_sections_of_one_name_are_both_run() -> None:
    text = f"[a]\n{GOOD}[a]\nclient = yes\naccept = 54\nconnect = 853\n"
    assert len(of(text).services) == len(of(text, "a").services) == 2


@pytest.mark.parametrize(
    ("name", "services", "errors"), [("home", 2, 0), ("pinned", 1, 0), ("mixed", 0, 3), ("windows", 1, 0)]
)
def test_own_samples(name: str, services: int, errors: int) -> None:
    made = meaning.interpret(parser.read(str(HERE / f"{name}.conf")), SYSTEM)
    assert (len(made.services), len(made.errors)) == (services, errors)


published = pytest.mark.skipif(not (SHARED / "stunnel_confs").exists(), reason="the published files are not here")
recorded = pytest.mark.skipif(not (SHARED / "stunnel_cases").exists(), reason="the recorded cases are not here")

PUBLISHED: dict[str, tuple[int, str]] = {
    "008": (1, ""), "015": (0, "neither TLS 1.2 nor TLS 1.3"), "042": (0, "OCSPaia is not supported"),
    "051": (0, "a server section"), "062": (0, "Illegal syslog facility"), "070": (1, ""), "081": (3, ""),
    "083": (0, "Unknown TCP service '853 #Japan'"), "086": (0, "OCSPaia is not supported"), "091": (1, ""),
}  # fmt: skip


@published
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files(name: str) -> None:
    services, said = PUBLISHED[name]
    made = meaning.interpret(parser.read(str(SHARED / "stunnel_confs" / f"{name}.conf")), SYSTEM)
    assert len(made.services) == services
    assert said in "\n".join(map(str, made.errors[:1]))
    assert bool(said) == bool(made.errors)


@published
def test_a_published_file_with_a_server_and_ocsp_runs_when_asked_to() -> None:
    file = parser.read(str(SHARED / "stunnel_confs" / "086.conf"))
    (service,) = meaning.interpret(file, SYSTEM, wanted=["dnsclient"], without_ocsp=True).services
    assert (service.checks.chain, service.checks.peer) == (False, True)


def _cases() -> list[Any]:
    path = SHARED / "stunnel_cases"
    if not path.exists():
        return []
    verdicts = {one["id"]: one["verdict"] for one in json.loads((path / "results_stunnel.json").read_text())["results"]}
    cases = json.loads((path / "cases.json").read_text(encoding="utf-8"))["cases"]
    return [pytest.param(case, verdicts[case["id"]], id=case["id"]) for case in cases]


# Refused for what is in a file, or not: another room's, or the operating system's.
ELSEWHERE = {"chain-garbage-cafile", "chain-capath-empty", "client-key-mismatch", "output-unwritable"}


@recorded
@pytest.mark.parametrize(("case", "verdict"), _cases())
def test_recorded_cases(case: dict[str, Any], verdict: str, tmp_path: Path) -> None:
    names = {
        "accept": "127.0.0.1:5301", "aport": "5301", "accept2": "127.0.0.1:5302", "aport2": "5302",
        "connect": "127.0.0.1:8531", "cport": "8531", "connect2": "127.0.0.1:8532", "cport2": "8532",
        "dead": "127.0.0.1:9", "pki": str(tmp_path), "tmp": str(tmp_path),
    }  # fmt: skip

    def fill(text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda found: names.get(found[1], found[0]), text)

    for name, lines in case.get("files", {}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(fill("\n".join(lines)) + "\n")
    lines = [] if case.get("raw") else ["foreground = yes", "pid =", "debug = 7"]
    text = fill("\n".join([*lines, *case["conf"]])).replace("\n", case.get("eol", "\n"))
    system = SYSTEM if "nosuchuser" not in text else type(SYSTEM)(
        SYSTEM.resolve_port, SYSTEM.resolve_host, knows_user=lambda name: name != "nosuchuser"
    )  # fmt: skip
    made = meaning.interpret(parser.parse((b"\xef\xbb\xbf" if case.get("bom") else b"") + text.encode(), "f"), system)
    if case["id"] in ELSEWHERE:
        return
    allowed = {verdict, *case.get("allow", [])}
    assert ("refused" in allowed) if made.errors else allowed != {"refused"}, "\n".join(map(str, made.errors))


NAMES = st.sampled_from([option.name for option in BY_KEY.values()])
VALUES = st.sampled_from(
    ["yes", "no", "4", "-1", "", "53", "127.0.0.1:53", "::1:53", "[::1]:5", "all", "TLSv1.3", "a.pem", "x # y", "{{x}}",
     "NO_TICKET", "-NO_SSLv3", "r:TCP_NODELAY=1", "MinProtocol:TLSv1.2", "P-256", "prio", "\udcff", "a\xa0b", "7.7"]
)  # fmt: skip
LINES = st.builds("{} = {}".format, NAMES, VALUES) | st.sampled_from(["[a]", "[b]", "", "; x", "x", "client = yes"])
TEXTS = st.text(max_size=60) | st.lists(LINES | st.text(max_size=10), max_size=12).map("\n".join)


def harmless(text: str, *, wanted: tuple[str, ...] = ()) -> None:
    """Nothing escapes, every error can be shown, and a file either runs or says why not."""
    data = text.encode("utf-8", "surrogateescape" if "\udcff" in text else "surrogatepass")
    with contextlib.suppress(ConfigError):
        file = parser.parse(data, "f.conf")
        for strict in (False, True):
            made = meaning.interpret(file, SYSTEM, wanted=wanted, strict=strict, without_ocsp=strict)
            assert made.errors or made.services
            assert explain.explain(made).encode()
        made.check()


@settings(max_examples=150)
@given(TEXTS)
def test_any_text_is_a_config_error_at_worst(text: str) -> None:
    harmless(text)
    harmless("client = yes\naccept = 53\nconnect = 853\n[a]\n" + text, wanted=("a",))


@settings(max_examples=150)
@given(st.sampled_from(sorted(HERE.glob("*.conf"))), st.data())
def test_real_files_that_were_damaged_are_config_errors_at_worst(path: Path, data: st.DataObject) -> None:
    text = path.read_bytes().decode()
    at = data.draw(st.integers(0, len(text)))
    gone = data.draw(st.integers(0, 12))
    harmless(text[:at] + data.draw(LINES | st.text(max_size=5)) + text[at + gone :])
