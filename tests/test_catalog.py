"""catalog: which names there are, what each stands for, and what keeps a server from being taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from _udp2tls import catalog
from _udp2tls.catalog import STATIC, Catalog
from _udp2tls.tables import Wanted
from tests import signed


def loaded(folder: Path, *parts: str) -> tuple[Catalog, list[str]]:
    wanted = signed.wanted(folder, *parts)
    warnings = catalog.load(wanted)
    return Catalog(wanted), warnings


def test_the_file_itself_counts_before_lists_and_the_earlier_list_before_the_later(tmp_path: Path) -> None:
    one = signed.write(tmp_path, "one", {"a": signed.server("192.0.2.2"), "b": signed.server("192.0.2.3")})
    two = signed.write(tmp_path, "two", {"b": signed.server("192.0.2.4"), "c": signed.server("192.0.2.5")})
    known, warnings = loaded(tmp_path, f"[static.a]\nstamp = '{signed.server('192.0.2.1')}'", one, two)
    assert warnings == []
    assert list(known) == ["a", "b", "c"]
    found = {name: [(one.origin, one.spec and one.spec.host) for one in known.offers(name)] for name in known}
    assert found == {"a": [(STATIC, "192.0.2.1")], "b": [("one", "192.0.2.3")], "c": [("two", "192.0.2.5")]}
    assert known.lines == [
        f"source    one: 2 names, 1 of them in an earlier one too, which counts, from {tmp_path / 'one.md'}",
        f"source    two: 2 names, 1 of them in an earlier one too, which counts, from {tmp_path / 'two.md'}",
    ]


def test_names_are_found_in_any_case_and_with_the_prefix(tmp_path: Path) -> None:
    table = signed.write(tmp_path, "one", {"Server": signed.server("192.0.2.2"), "server": signed.server("192.0.2.3")})
    known, _ = loaded(tmp_path, table + 'prefix = "my-"\n')
    assert known.find("my-server") == "my-server"
    assert known.find("MY-SERVER") == "my-Server", "the first of them"
    assert known.find("server") == ""
    assert known.offers("my-Server")[0].prefix == "my-"


def test_a_list_that_cannot_be_used_is_a_warning_and_the_others_are_used(tmp_path: Path) -> None:
    good = signed.write(tmp_path, "good", {"a": signed.server("192.0.2.1")})
    bad = signed.write(tmp_path, "bad", {"b": signed.server("192.0.2.2")})
    (tmp_path / "bad.md").write_text("## b\n\nsdns://AA")
    known, warnings = loaded(tmp_path, good, bad, signed.table("missing"))
    assert list(known) == ["a"]
    assert known.missing == ("bad", "missing")
    assert warnings[0] == "source bad: the signature is not one of this file"
    assert warnings[1].startswith(f"source missing: {tmp_path / 'missing.md'}: No such file")


def test_a_list_that_was_there_before_is_kept(tmp_path: Path) -> None:
    wanted = signed.wanted(tmp_path, signed.write(tmp_path, "one", {"a": signed.server("192.0.2.1")}))
    assert catalog.load(wanted) == []
    (tmp_path / "one.md").unlink()
    assert "the list from before stays in use" in catalog.load(wanted)[0]
    assert list(Catalog(wanted)) == ["a"]


@pytest.mark.parametrize(
    ("stamp", "protocol", "problem"),
    [
        (signed.server("192.0.2.1"), "DNSCrypt", ""), (signed.dot("192.0.2.1"), "DoT", ""),
        (signed.DOH, "DoH", "DoH is not supported as an upstream"),
        ("sdns://AAcAAAAAAAAABzguOC44Ljg", "plain DNS", "plain DNS is not encrypted"),
        (signed.relay("192.0.2.1"), "DNSCrypt relay", "a relay answers no queries itself"),
        ("sdns://nonsense!", "", "its stamp cannot be read: '!' does not belong"),
        (f"{signed.relay('192.0.2.2')}/{signed.server('192.0.2.1').removeprefix('sdns://')}", "DNSCrypt", ""),
        (signed.server("192.0.2.1") + "?tcp", "DNSCrypt", ""),
    ],
)  # fmt: skip
def test_what_a_stamp_is_good_for(stamp: str, protocol: str, problem: str) -> None:
    one = catalog.offer("name", "list", stamp)
    assert one.protocol == protocol
    assert one.problem.startswith(problem)
    assert (one.spec is None) == bool(problem)
    assert one.relay == ("relay" in protocol)


@pytest.mark.parametrize(
    ("wanted", "stamp", "lacks"),
    [
        (Wanted(), signed.server("192.0.2.1"), ""),
        (Wanted(require=("require_dnssec", "require_nolog")), signed.server("192.0.2.1", dnssec=False, no_logs=False),
         "require_dnssec, require_nolog"),
        (Wanted(require=("require_nofilter",)), signed.server("192.0.2.1", no_filter=False), "require_nofilter"),
        (Wanted(), signed.server("[2001:db8::1]"), "ipv6_servers"),
        (Wanted(families=frozenset((6,))), signed.server("192.0.2.1"), "ipv4_servers"),
        (Wanted(families=frozenset((4, 6))), signed.server("[2001:db8::1]"), ""),
        (Wanted(families=frozenset((6,))), signed.dot("", "dot.example"), ""),
        (Wanted(dnscrypt=False), signed.server("192.0.2.1"), "dnscrypt_servers"),
        (Wanted(dnscrypt=False), signed.dot("192.0.2.1"), ""),
        (Wanted(disabled=frozenset(("name",))), signed.server("192.0.2.1"), "disabled_server_names"),
    ],
)  # fmt: skip
def test_what_keeps_a_server_of_a_list_from_being_taken(wanted: Wanted, stamp: str, lacks: str) -> None:
    assert catalog.offer("Name", "list", stamp).lacks(wanted) == lacks
    assert catalog.offer("Name", STATIC, stamp).lacks(wanted) == "", "the file's own are meant as they are"
