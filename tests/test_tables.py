"""tables: dnscrypt-proxy's names, types and defaults, and every mistake is shown where it stands."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _udp2tls import choice, tables
from _udp2tls.config import ConfigError
from _udp2tls.toml_document import Document
from tests import signed

KEY = signed.SIGNER.line
SOURCE = f'[sources.one]\nurls = ["https://a.example/v3/one.md"]\ncache_file = "one.md"\nminisign_key = "{KEY}"\n'


def read(text: str) -> tables.Wanted:
    return tables.read(Document(text, "folder/file.toml"))


def mistake(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return str(caught.value).split("\n")


def test_nothing_said_means_what_dnscrypt_proxy_means() -> None:
    wanted = read("")
    assert not wanted.server_names
    assert not wanted.sources
    assert wanted.require == ("require_nolog", "require_nofilter")
    assert wanted.families == {4}
    assert wanted.dnscrypt
    assert not wanted.static
    assert not wanted.routes
    assert wanted.direct_certificates is None


def test_everything_said() -> None:
    wanted = read(
        """
server_names = ["a", 'b']
disabled_server_names = ["C"]
require_dnssec = true
require_nolog = false
require_nofilter = false
ipv4_servers = false
ipv6_servers = true
dnscrypt_servers = false
[static]
  [static.'mine']
  stamp = "sdns://x"
[static.yours]
stamp = "sdns://y"
[anonymized_dns]
direct_cert_fallback = false
routes = [
  { server_name = "a", via = ["r1", "*"] },
  { server_name = "*", via = ["r2"] },
]
"""
        + SOURCE
        + 'refresh_delay = 48\nprefix = "p-"\n'
    )
    assert [(one.text, one.place.where) for one in wanted.server_names] == [
        ("a", "folder/file.toml:2"), ("b", "folder/file.toml:2"),
    ]  # fmt: skip
    assert wanted.disabled == {"c"}
    assert wanted.require == ("require_dnssec",)
    assert wanted.families == {6}
    assert not wanted.dnscrypt
    assert {name: said.text for name, said in wanted.static.items()} == {"mine": "sdns://x", "yours": "sdns://y"}
    assert {name: [via.text for via in route.via] for name, route in wanted.routes.items()} == {
        "a": ["r1", "*"], "*": ["r2"]
    }  # fmt: skip
    (source,) = wanted.sources
    assert (source.name, source.prefix, source.refresh_delay) == ("one", "p-", 48)
    assert source.urls == ("https://a.example/v3/one.md",)
    assert source.cache_file == os.path.join("folder", "one.md"), "relative to the file that says it"


def test_routes_may_be_tables_of_their_own() -> None:
    wanted = read("[[anonymized_dns.routes]]\nserver_name = 'a'\nvia = ['r']\n[[anonymized_dns.routes]]\n"
                  "server_name = 'b'\nvia = ['r']\n")  # fmt: skip
    assert sorted(wanted.routes) == ["a", "b"]


def test_certificates_are_not_asked_for_directly_unless_the_file_says_so() -> None:
    for text in ("", "[anonymized_dns]", "[anonymized_dns]\ndirect_cert_fallback = false"):
        assert read(text).direct_certificates is None
    place = read("[anonymized_dns]\ndirect_cert_fallback = true").direct_certificates
    assert place is not None
    assert place.where == "folder/file.toml:2"


def test_one_url_may_be_called_url() -> None:
    (source,) = read(SOURCE.replace("urls = [", "url = ").replace('md"]', 'md"')).sources
    assert source.urls == ("https://a.example/v3/one.md",)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (SOURCE + "format = 'v2'", "folder/file.toml:5: format is ignored"),
        ("[anonymized_dns]\nskip_incompatible = true", "folder/file.toml:2: skip_incompatible is ignored"),
        ("doh_servers = true", "folder/file.toml:1: doh_servers is ignored"),
        ("odoh_servers = true", "folder/file.toml:1: odoh_servers is ignored"),
    ],
)
def test_what_says_nothing_here_is_a_note(text: str, note: str) -> None:
    assert read(text).notes[0].startswith(note)


@pytest.mark.parametrize(
    ("text", "line", "what", "under", "remedy"),
    [
        ("server_names = 'a'", 1, "server_names must be a list of texts, and is a text", "server_names", ""),
        ("server_names = ['a',\n 1]", 2, "an entry of server_names must be a text, and is a number", "1", ""),
        ("require_nolog = 'yes'", 1, "require_nolog must be true or false, and is a text", "require_nolog", ""),
        ("require_nolog = 1979-05-27", 1, "and is a date or a time", "require_nolog", ""),
        ("ipv4_servers = false", 1, "leaves no servers", "ipv4_servers", ""),
        ("static = 1", 1, "static must be a table, and is a number", "static", ""),
        ("[static]\na = 'sdns://x'", 2, "a must be a table, and is a text", "a", ""),
        ("[static.a]\nstamp = 'x'\n[static.b]\nstamp = 1", 4, "stamp must be a text, and is a number", "stamp", ""),
        ("[static.a]", 1, "a has no stamp", "a", 'add: stamp = "..."'),
        ("[static.a]\nstamp = 'x'\nstmp = 'x'", 3, "unknown name 'stmp'", "stmp", "did you mean stamp?"),
        ('[static."a\\u001bb"]\nstamp = "x"', 1, "not fit for a name", "a\\u001bb", ""),
        (SOURCE + "[sources.two]\ncache_file = 'x'", 5, "two has no minisign_key", "two", "add: minisign_key"),
        (SOURCE + "[sources.two]\nminisign_key = 'x'", 5, "two has no cache_file", "two", "add: cache_file"),
        (SOURCE + "[sources.two]\ncache_file = 'x'\nminisign_key = 'nonsense'", 7, "minisign_key: the public key",
         "nonsense", "copy it"),
        (SOURCE.replace("https:", "http:"), 2, "'http://a.example/v3/one.md' is not https://HOST/PATH/FILE",
         "http://a.example/v3/one.md", ""),
        (SOURCE + "url_s = []", 5, "unknown name 'url_s'", "url_s", "did you mean urls or url?"),
        (SOURCE + "zzz = []", 5, "unknown name 'zzz'", "zzz", "known are: urls, url, cache_file"),
        (SOURCE + "refresh_delay = '72'", 5, "refresh_delay must be a number of hours", "refresh_delay", ""),
        (SOURCE + SOURCE.replace("sources.one", "sources.two"), 7, "source one has the same file", "cache_file", ""),
        ("[anonymized_dns]\nroute = []", 2, "unknown name 'route'", "route", "did you mean routes?"),
        ("[anonymized_dns]\nroutes = 1", 2, "routes must be a list of", "routes", ""),
        ("[anonymized_dns]\nroutes = [1]", 2, "must be { server_name = ..., via", "1", ""),
        ("[anonymized_dns]\nroutes = [\n{ server_name = 'a' }]", 3, "the route has no via", "{ server_name = 'a' }",
         "write { server_name"),
        ("[anonymized_dns]\nroutes = [\n{ server_name = 'a', via = [] }]", 3, "the route has no via", "via", ""),
        ("[anonymized_dns]\nroutes = [\n{ via = ['a'] }]", 3, "the route has no server_name", "{ via = ['a'] }", ""),
        ("[anonymized_dns]\nroutes = [{ server_name = 'a', via = 'b' }]", 2, "via must be a list of texts", "via", ""),
        ("[anonymized_dns]\nroutes = [{ server_name = 'a', via = ['b'], vai = 1 }]", 2, "unknown name 'vai'", "vai",
         "did you mean via?"),
        ("[anonymized_dns]\nroutes = [{ server_name = 'a', via = ['b'] },\n{ server_name = 'A', via = ['c'] }]", 3,
         "a second route", "A", "name all its relays in one"),
        ("[anonymized_dns]\ndirect_cert_fallback = 'true'", 2, "must be true or false", "direct_cert_fallback", ""),
    ],
)  # fmt: skip
def test_a_mistake_is_shown_where_it_stands(text: str, line: int, what: str, under: str, remedy: str) -> None:
    said, shown, carets, *rest = mistake(text)
    assert said.startswith(f"folder/file.toml:{line}: ")
    assert what in said
    assert shown[4:] == text.split("\n")[line - 1]
    assert shown[carets.index(carets.strip()) :].startswith(under)
    assert len(carets.strip()) == len(under)
    assert remedy in "\n".join(rest)


def test_there_are_bounds() -> None:
    assert "65 entries, and 64 are the most" in mistake(f"server_names = {['a'] * 65}")[0]
    assert "33 entries" in mistake(f"anonymized_dns.routes = [{{ server_name = 'a', via = {['a'] * 33} }}]")[0]
    assert "257 routes" in mistake(f"anonymized_dns.routes = [{'{},' * 257}]")[0]
    assert "33 sources" in mistake("[sources]\n" + "".join(f"{number} = {{}}\n" for number in range(33)))[0]


def test_refresh_delays_out_of_all_bounds_are_brought_within_them() -> None:
    for hours, kept in ((0, 72), (-5, 72), (1, 24), (1 << 70, 168)):
        assert read(f"{SOURCE}refresh_delay = {hours}").sources[0].refresh_delay == kept


SCALARS = st.sampled_from([
    "1", "true", "false", "'*'", "'a'", "''", "'sdns://gRIxMDIuMjE0LjEwLjgyOjg0NDM'", "'192.0.2.1'", "'relay:443'",
    "1979-05-27", "1.5", f"'{signed.server('192.0.2.1')}'", f"'{KEY}'", "'\\u0000'", '"\\u0000"', "'https://a.b/c'",
])  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3).map(lambda many: f"[{', '.join(many)}]") | st.dictionaries(
        st.sampled_from(["server_name", "via", "stamp", "urls", "cache_file", "minisign_key", "a", "routes"]), inner,
        max_size=4,
    ).map(lambda table: "{" + ", ".join(f"{key} = {value}" for key, value in table.items()) + "}"),
    max_leaves=10,
)  # fmt: skip
NAMES = st.sampled_from([
    "server_names", "require_nolog", "ipv6_servers", "static", "static.a", "static.a.stamp", "sources", "sources.s",
    "sources.s.urls", "sources.s.cache_file", "sources.s.minisign_key", "sources.s.prefix", "anonymized_dns",
    "anonymized_dns.routes", "disabled_server_names", "sources.s.refresh_delay",
])  # fmt: skip


@settings(max_examples=500)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=7))
def test_any_tables_are_a_config_error_at_worst(lines: list[tuple[str, str]]) -> None:
    with contextlib.suppress(ConfigError):
        document = Document("\n".join(f"{name} = {value}" for name, value in lines), os.devnull)
        choice.read(document, ())


def test_texts_that_were_meant_come_through(tmp_path: Path) -> None:
    """A file with everything right, of the values above, is no mistake."""
    relays = signed.write(tmp_path, "relays", {"anon-r": signed.relay("198.51.100.1")})
    found: Any = signed.chosen(
        tmp_path, "server_names = ['a']", relays, f"[static.a]\nstamp = '{signed.server('192.0.2.1')}'",
        "[anonymized_dns]\nroutes = [{ server_name = 'a', via = ['anon-r'] }]",
    )  # fmt: skip
    assert signed.ways(found) == ["192.0.2.1 198.51.100.1"]
