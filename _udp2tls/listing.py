"""What ``--list`` prints: the servers and relays that a file and its lists offer, as a table.

Owns the lay-out. It reads the lists' files and nothing else, needs no network, and does not
mind whether the file's own choice can be made: whoever looks for a name has none yet. What
is in a list was written by strangers; it has been checked there for what a terminal obeys.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from _udp2tls import catalog, tables, toml
from _udp2tls.catalog import Catalog, Offer
from _udp2tls.config import ConfigError
from _udp2tls.stamp_fields import FIELDS
from _udp2tls.tables import Wanted

_SERVERS = ("server", "protocol", "IP", "nolog", "nofilter", "dnssec", "remarks")
_RELAYS = ("relay", "protocol", "IP", "address")

_WORDS = {True: "yes", False: "no"}


def show(path: str | None) -> str:
    """Return the tables; raise ConfigError."""
    if not path or not path.endswith(".toml"):
        raise ConfigError(
            "there is no file that names lists", where="--list", remedy="write: udp2tls --list FILE.toml; "
            "in it [sources.NAME] with urls, cache_file, minisign_key",
        )  # fmt: skip
    wanted = tables.read(toml.document(path))
    if not wanted.sources and not wanted.static:
        raise ConfigError("it names no lists", where=path, remedy="add [sources.NAME], or [static.NAME]")
    warnings = catalog.load(wanted)
    return "\n".join(_lines(Catalog(wanted), wanted, warnings))


def _lines(known: Catalog, wanted: Wanted, warnings: Sequence[str]) -> Iterable[str]:
    offers = list(known.all())
    servers, relays = [one for one in offers if not one.relay], [one for one in offers if one.relay]
    if servers:
        yield from _table(_SERVERS, [_server(group, wanted) for group in _grouped(servers)])
        yield ""
    if relays:
        yield from _table(_RELAYS, [_relay(group) for group in _grouped(relays)])
        yield ""
    yield from known.lines
    usable = {one.name for one in servers if one.spec and not one.lacks(wanted)}
    yield f"servers   {len({one.name for one in servers})}; usable and with what is required: {len(usable)}"
    yield f"relays    {len({one.name for one in relays})}"
    yield from (f"note      {note}" for note in wanted.notes)
    yield from (f"warning   {warning}" for warning in (*warnings, *known.warnings))


def _grouped(offers: Iterable[Offer]) -> list[list[Offer]]:
    """Put together what differs by address alone."""
    groups: dict[object, list[Offer]] = {}
    for one in offers:
        stamp = one.stamp
        about = stamp and (stamp.kind, stamp.dnssec, stamp.no_logs, stamp.no_filter)
        groups.setdefault((one.name, about), []).append(one)
    return list(groups.values())


def _server(group: Sequence[Offer], wanted: Wanted) -> list[str]:
    one = group[0]
    stamp = one.stamp
    if stamp is None:
        return [one.name, "", "", "", "", "", one.problem]
    properties = [stamp.no_logs, stamp.no_filter, stamp.dnssec] if "properties" in FIELDS[stamp.kind] else []
    named = any(said.text.casefold() == one.name.casefold() for said in wanted.server_names)
    lacks = "" if any(not other.lacks(wanted) for other in group) else one.lacks(wanted)
    remarks = ["in server_names"] if named else []
    if not one.spec:
        remarks.append("not supported")
    elif lacks and not named:
        remarks.append(f"excluded by {lacks}")
    return [one.name, one.protocol, _families(group), *(_WORDS[one] for one in properties), ", ".join(remarks)]


def _relay(group: Sequence[Offer]) -> list[str]:
    one = group[0]
    where = ", ".join(f"{_shown(each.stamp.ip)}:{each.stamp.port}" for each in group if each.stamp and each.stamp.ip)
    return [one.name, one.protocol, _families(group), where or (one.stamp.host if one.stamp else "")]


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _families(group: Iterable[Offer]) -> str:
    return " ".join(map(str, sorted({version for one in group for version in one.families})))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Lay out columns, each as wide as its widest."""
    widths = [max(map(len, column)) for column in zip(heads, *rows)]
    for row in (heads, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
