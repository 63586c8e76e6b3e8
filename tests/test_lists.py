"""lists: the entries that dnscrypt-proxy finds in the same text, and none of another's stamps."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from _udp2tls import lists
from _udp2tls.lists import Entry, ListError, parse

LISTS = Path(__file__).parent.parent.parent / "shared" / "resolver_lists"

LIST = """\
# example

Text before the first entry, with a stamp that belongs to nobody: sdns://x

    [sources.'example']

--


## one

A server.
No logs.  https://one.example/

sdns://AAcAAAAAAAAABzguOC44Ljg


## two

// sdns://old
Two ways to the same server.

sdns://AAcAAAAAAAAADDguOC44Ljg6ODA1Mw
sdns://AAcAAAAAAAAADDk0LjE0MC4xNC4xNA
"""


def names(text: str) -> list[str]:
    return [entry.name for entry in parse(text.encode()).entries]


def refused(text: str) -> str:
    with pytest.raises(ListError) as caught:
        parse(text.encode())
    return str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_as_it_is_published(end: str) -> None:
    listing = parse(LIST.replace("\n", end).encode())
    assert listing.entries == (
        Entry("one", "A server.\nNo logs.  https://one.example/", ("sdns://AAcAAAAAAAAABzguOC44Ljg",)),
        Entry("two", "Two ways to the same server.",
              ("sdns://AAcAAAAAAAAADDguOC44Ljg6ODA1Mw", "sdns://AAcAAAAAAAAADDk0LjE0MC4xNC4xNA")),
    )  # fmt: skip
    assert listing.notes == ()


@pytest.mark.parametrize(
    ("name", "entries", "stamps"),
    [("odoh-servers.md", 146, 146), ("opennic.md", 3, 3), ("parental-control.md", 25, 37), ("relays.md", 346, 346)],
)
def test_the_projects_lists(name: str, entries: int, stamps: int) -> None:
    path = LISTS / name
    if not path.exists():
        pytest.skip("the project's lists are not here")
    data = path.read_bytes()
    listing = parse(data)
    assert listing.notes == ()
    assert len(listing.entries) == len({entry.name for entry in listing.entries}) == entries
    assert data.count(b"\nsdns:") == sum(len(entry.stamps) for entry in listing.entries) == stamps
    assert all(entry.description for entry in listing.entries)
    assert {entry.name: list(entry.stamps) for entry in listing.entries} == dnscrypt_proxy(data.decode())


def test_a_prefix_stands_before_every_name() -> None:
    assert [entry.name for entry in parse(LIST.encode(), "mine-").entries] == ["mine-one", "mine-two"]


def test_traps_that_dnscrypt_proxy_sets() -> None:
    # A heading anywhere begins an entry: in a comment, deeper, in a sentence, behind spaces, at the very start.
    assert names("## a\nsdns:a\n// ## b\nsdns:b\n### c\nsdns:c\nfor ## d\nsdns:d\n  ## e\nsdns:e") == list("abcde")
    assert names("\ufeff## a\nsdns://1") == ["a"]
    assert names("##a\nsdns:1\n##\tb\nsdns:2\n## c\nsdns:3") == ["c"]
    # Stamps: with or without slashes, indented, but not without anything, nor within a sentence, nor in capitals.
    (entry,) = parse(b"## a\nsee sdns://1\n sdns:2 \nsdns:\nSDNS://3\n\tsdns://4\n//sdns://5\n").entries
    assert entry == Entry("a", "see sdns://1\nsdns:\nSDNS://3", ("sdns:2", "sdns://4"))
    assert parse(b"## a\nsdns://1\nlater\nsdns://1").entries == (Entry("a", "later", ("sdns://1",)),)
    # Names: blanks around them are not theirs.
    assert names("##   a b \t\r\nsdns:1") == ["a b"]


def test_bad_entries_are_left_out_and_noted() -> None:
    listing = parse("## a\n## \n## b\ntext\n## c\nsdns:1\n## \x1b[2J\nsdns:2\n## d\u202e\nsdns:3".encode())
    assert [entry.name for entry in listing.entries] == ["c"]
    assert listing.notes == (
        "entry 1: 'a' has no stamp", "entry 2: no name", "entry 3: 'b' has no stamp",
        "entry 5: '\\x1b[2J' is not fit for a name", "entry 6: 'd\\u202e' is not fit for a name",
    )  # fmt: skip


def test_of_two_entries_of_one_name_the_last_counts() -> None:
    listing = parse(b"## a\nsdns:1\n## b\nsdns:2\n## a\nsdns:3")
    assert [(entry.name, entry.stamps) for entry in listing.entries] == [("a", ("sdns:3",)), ("b", ("sdns:2",))]
    assert listing.notes == ("entry 3: 'a' again, the last one counts",)


@pytest.mark.parametrize("text", ["", "# a\nsdns://1", "<html>not found</html>", "## ", "## a", "##a\nsdns:1"])
def test_what_is_no_list_is_refused(text: str) -> None:
    assert refused(text).startswith("the list has no entries")


def test_names_that_are_not_utf_8_and_descriptions_that_a_terminal_would_obey() -> None:
    (entry,) = parse(b"## a\xff\nred \x1b[31m text\x00\nsdns:1").entries
    assert entry == Entry("a\ufffd", "red  [31m text ", ("sdns:1",))


def test_limits() -> None:
    with pytest.raises(ListError, match="4194305 bytes"):
        parse(b"#" * (lists.MAX_SIZE + 1))
    assert refused("## " * (lists.MAX_ENTRIES + 1)) == "the list has more than 20000 entries"
    assert len(parse(b"".join(b"## %d\nsdns:1\n" % n for n in range(lists.MAX_ENTRIES))).entries) == lists.MAX_ENTRIES
    good = "## good\nsdns:1\n"
    for bad in (
        f"## {'n' * 129}\nsdns:1",
        f"## x\nsdns:{'a' * 4092}",
        "## x\n" + "".join(f"sdns:{n}\n" for n in range(65)),
    ):
        listing = parse((good + bad).encode())
        assert names(good + bad) == ["good"]
        assert len(listing.notes) == 1
        assert len(listing.notes[0]) < 200
    assert len(parse(f"## a\n{'text ' * 9999}\nsdns:1".encode()).entries[0].description) == lists.MAX_DESCRIPTION


def test_a_list_of_mistakes_does_not_fill_the_log() -> None:
    listing = parse(b"## a\nsdns:1\n" + b"## b\n" * 1000)
    assert len(listing.notes) == lists.MAX_NOTES
    assert listing.notes[-1] == "991 more entries with mistakes"
    assert len(parse(b"## a\nsdns:1\n" + b"## b\n" * lists.MAX_NOTES).notes) == lists.MAX_NOTES


def dnscrypt_proxy(text: str) -> dict[str, list[str]] | None:
    """Read a list step by step as dnscrypt-proxy's parseV2 does; None: it refuses the list."""
    servers: dict[str, list[str]] = {}
    parts = text.split("## ")
    if len(parts) < 2:
        return None
    for part in parts[1:]:
        lines = part.strip().split("\n")
        if len(lines) < 2 or not lines[0].strip():
            return None
        stamps: list[str] = []
        for line in lines[1:]:
            line = line.strip()
            if line.startswith("sdns:") and len(line) >= 6 and line not in stamps:
                stamps.append(line)
        if stamps:
            servers[lines[0].strip()] = stamps
    return servers


PIECES = st.sampled_from(
    ["## ", "##", "# ", "### ", "\n", "\r\n", " ", "\t", "//", "sdns:", "sdns://", "a", "b", "server", "--", "é"]
)


@given(st.lists(PIECES, max_size=40).map("".join))
@settings(max_examples=500)
def test_the_same_entries_as_dnscrypt_proxy(text: str) -> None:
    try:
        found = {entry.name: list(entry.stamps) for entry in parse(text.encode()).entries}
    except ListError:
        found = {}
    theirs = dnscrypt_proxy(text)
    if theirs is not None:
        assert {name: stamps for name, stamps in theirs.items() if name.isprintable()} == found


@given(st.binary() | st.text().map(lambda text: ("## a\n" + text).encode()), st.text(max_size=5))
def test_strange_texts_raise_their_own_error(data: bytes, prefix: str) -> None:
    try:
        listing = parse(data, prefix)
    except ListError:
        return
    for entry in listing.entries:
        assert entry.name.isprintable()
        assert entry.name.startswith(prefix)
        assert entry.description.replace("\n", "").isprintable()
        assert entry.stamps
