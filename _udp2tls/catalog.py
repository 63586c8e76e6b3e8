"""Which servers and relays there are by name: those of the file itself, and those of its lists.

Owns the names, and what each stands for: a name may have several stamps, which are ways to the
same server. The file's own entries come before those of lists, and an earlier list before a
later one, so that nobody who writes a list takes over a name of another's. Lists are used
as they are in their files: nothing is downloaded here. A list that cannot be used is a
warning; what is then missing, ``choice`` finds out. A stamp is read when it is asked for, since
lists hold a thousand and most files name a few.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from _udp2tls import stamps
from _udp2tls.config import UpstreamSpec, is_address
from _udp2tls.sources import Source, SourceError
from _udp2tls.stamp_fields import NAMES, Kind, Stamp, StampError
from _udp2tls.tables import REQUIREMENTS, Wanted

STATIC = "[static]"  # no name of a source, lest a list passes for the file itself

RELAYS = (Kind.DNSCRYPT_RELAY, Kind.ODOH_RELAY)


@dataclass(frozen=True)
class Offer:
    """One stamp of a name. ``spec`` is None when it cannot be an upstream, and ``problem`` says why."""

    name: str
    origin: str  # of which source; STATIC: of the file itself
    text: str
    stamp: Stamp | None = None
    spec: UpstreamSpec | None = None
    problem: str = ""
    prefix: str = ""  # that the source puts before its names

    @property
    def relay(self) -> bool:
        return self.stamp is not None and self.stamp.kind in RELAYS

    @property
    def protocol(self) -> str:
        return NAMES[self.stamp.kind] if self.stamp else ""

    @property
    def families(self) -> frozenset[int]:
        """The versions of IP that it can be reached by; both where a name is to be looked up."""
        host = self.stamp.ip if self.stamp else ""
        return frozenset((6,) if ":" in host else (4,)) if is_address(host) else frozenset((4, 6))

    def lacks(self, wanted: Wanted) -> str:
        """Return what keeps it from being taken without being named; nothing keeps what the file itself gives."""
        if self.stamp is None or self.origin == STATIC:
            return ""
        missing = [key for key in wanted.require if not getattr(self.stamp, REQUIREMENTS[key])]
        if self.name.casefold() in wanted.disabled:
            missing.append("disabled_server_names")
        if not self.families & wanted.families:
            missing += [f"ipv{version}_servers" for version in self.families]
        if not wanted.dnscrypt and self.stamp.kind is Kind.DNSCRYPT:
            missing.append("dnscrypt_servers")
        return ", ".join(missing)


class Catalog:
    """See the file's docstring. ``lines`` says for --check what the sources hold."""

    def __init__(self, wanted: Wanted) -> None:
        """Take the lists that the sources have by now."""
        self.wanted = wanted
        self.missing = tuple(source.name for source in wanted.sources if source.listing is None)
        self.lines: list[str] = []
        self.warnings: list[str] = []
        self._stamps: dict[str, tuple[str, tuple[str, ...]]] = {
            name: (STATIC, (said.text,)) for name, said in wanted.static.items()
        }
        self._prefixes = {source.name: source.prefix for source in wanted.sources}
        self._offers: dict[str, tuple[Offer, ...]] = {}
        for source in wanted.sources:
            self._add(source)
        self._by_fold = {name.casefold(): name for name in reversed(self._stamps)}

    def _add(self, source: Source) -> None:
        listing = source.listing
        if listing is None:
            return
        again = 0
        for entry in listing.entries:
            again += entry.name in self._stamps
            self._stamps.setdefault(entry.name, (source.name, entry.stamps))
        known = f", {again} of them in an earlier one too, which counts" if again else ""
        self.lines.append(f"source    {source.name}: {len(listing.entries)} names{known}, from {source.cache_file}")
        self.warnings += [f"source {source.name}: {note}" for note in listing.notes]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stamps)

    def find(self, name: str) -> str:
        """Return the name as it is written here, in whatever case it was given; empty when it is unknown."""
        return name if name in self._stamps else self._by_fold.get(name.casefold(), "")

    def offers(self, name: str) -> tuple[Offer, ...]:
        """Return what a known name stands for."""
        found = self._offers.get(name)
        if found is None:
            origin, texts = self._stamps[name]
            prefix = self._prefixes.get(origin, "")
            found = self._offers[name] = tuple(offer(name, origin, text, prefix) for text in texts)
        return found

    def all(self) -> Iterator[Offer]:
        for name in self._stamps:
            yield from self.offers(name)


def offer(name: str, origin: str, text: str, prefix: str = "") -> Offer:
    """Read one stamp, good or bad."""
    bare = text.removesuffix("?tcp")
    try:
        stamp = stamps.parse_pair(bare).server if stamps.is_pair(bare) else stamps.parse(bare)
    except StampError as error:
        return Offer(name, origin, text, problem=f"its stamp cannot be read: {error.problem}", prefix=prefix)
    try:
        return Offer(name, origin, text, stamp, stamps.upstream(text), prefix=prefix)
    except StampError as error:
        return Offer(name, origin, text, stamp, problem=error.problem, prefix=prefix)


def load(wanted: Wanted) -> list[str]:
    """Read every list from its file; return a warning for each that cannot be used."""
    warnings = []
    for source in wanted.sources:
        try:
            source.load()
        except SourceError as error:
            kept = "; the list from before stays in use" if source.listing else ""
            warnings.append(f"{error}{kept}")
    return warnings
