"""listing: what --list prints, also when the file's own choice cannot be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from _udp2tls import listing
from _udp2tls.config import ConfigError
from tests import signed
from tests.test_minisign import LISTS

ENTRIES = {
    "one": [signed.server("192.0.2.1"), signed.server("[2001:db8::1]")],
    "logs": signed.server("192.0.2.2", no_logs=False, dnssec=False), "six": signed.server("[2001:db8::3]"),
    "dot": signed.dot("", "dot.example", no_filter=False), "doh": signed.DOH, "bad": "sdns://nonsense!",
    "anon-r": [signed.relay("198.51.100.1"), signed.relay("[2001:db8::9]:8443")],
}  # fmt: skip


def shown(folder: Path, *parts: str) -> list[str]:
    (folder / "file.toml").write_text("\n".join(parts))
    return listing.show(str(folder / "file.toml")).split("\n")


def test_a_table_of_servers_one_of_relays_and_what_is_excluded_by_what(tmp_path: Path) -> None:
    names = "server_names = ['logs', 'nonsense']"  # which need not be right
    entries = signed.write(tmp_path, "lists", ENTRIES)
    assert shown(tmp_path, names, entries, signed.table("gone")) == [
        "server  protocol  IP   nolog  nofilter  dnssec  remarks",
        "one     DNSCrypt  4 6  yes    yes       yes",
        "logs    DNSCrypt  4    no     yes       no      in server_names",
        "six     DNSCrypt  6    yes    yes       yes     excluded by ipv6_servers",
        "dot     DoT       4 6  yes    no        yes     excluded by require_nofilter",
        "doh     DoH       4    no     no        no      not supported",
        "bad                                             its stamp cannot be read: '!' does not belong in a stamp",
        "",
        "relay   protocol        IP   address",
        "anon-r  DNSCrypt relay  4 6  198.51.100.1:443, [2001:db8::9]:8443",
        "",
        f"source    lists: 7 names, from {tmp_path / 'lists.md'}",
        "servers   6; usable and with what is required: 1",
        "relays    1",
        f"warning   source gone: {tmp_path / 'gone.md'}: No such file or directory",
    ]


@pytest.mark.skipif(not LISTS.exists(), reason="the project's lists are not here")
def test_the_projects_lists(tmp_path: Path) -> None:
    key = (LISTS / "minisign.pub").read_text().splitlines()[1]
    tables = [f"[sources.{name}]\ncache_file = '{LISTS / name}.md'\nminisign_key = '{key}'\n"
              for name in ("relays", "parental-control", "opennic", "odoh-servers")]  # fmt: skip
    lines = shown(tmp_path, *tables)
    assert "relays    346" in lines
    adult = next(line.split() for line in lines if line.startswith("cleanbrowsing-adult "))
    assert adult == ["cleanbrowsing-adult", "DNSCrypt", "4", "yes", "no", "yes", "excluded", "by", "require_nofilter"]
    assert any(line.startswith("anon-cs-austria ") and line.endswith("94.198.41.235:443") for line in lines)


@pytest.mark.parametrize(
    ("path", "said"), [(None, "there is no file that names lists"), ("stunnel.conf", "there is no file"),
                       ("missing.toml", "missing.toml: No such file")],
)  # fmt: skip
def test_without_a_file_there_is_nothing_to_list(path: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        listing.show(path)


def test_a_file_without_lists_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"it names no lists\n  add \[sources.NAME\]"):
        shown(tmp_path, "timeout = 3")
