"""Which of several lines counts."""

from __future__ import annotations

from stunnel_compat.given import Given, Outcome, Reading
from stunnel_compat.options import BY_KEY
from stunnel_compat.parser import Section, Setting


def given(*lines: str) -> Given:
    readings = []
    for number, line in enumerate(lines, 1):
        name, _, value = line.partition(" = ")
        option = BY_KEY[name.lower()]
        readings.append(Reading(Setting(name, value, "f", number, line, 0, len(name) + 3), option, option.read(value)))
    return Given(Outcome(Section("dns", "f", 1, "[dns]"), readings[1:]), readings)


def test_lists_add_up_and_the_last_of_anything_else_counts() -> None:
    one = given("connect = 1", "CAfile = a", "connect = 2", "cafile = b")
    assert [reading.setting.value for reading in one.all("connect")] == ["1", "2"]
    assert one.text("cafile") == "b"
    assert [reading.setting.line for reading in one.counting] == [1, 3, 4]
    assert one.outcome.used == {id(reading.setting) for reading in one.counting}


def test_what_is_not_given_has_its_default() -> None:
    one = given("connect = 1")
    assert (one.text("cert"), one.flag("delay", True), one.number("verify", 3)) == ("", True, 3)
    assert one.parts("curves") == ()
    assert one.last("cert") is None


def test_every_line_of_a_sequence_counts() -> None:
    one = given("verify = 4", "verifyChain = yes", "verify = 2")
    assert [reading.value for reading in one.sequence("verify", "verifychain")] == [4, True, 2]
    assert len(one.counting) == 3


def test_aliases_are_one_option() -> None:
    assert given("curve = P-256", "curves = X25519").parts("curves") == ("X25519",)


def test_pairs() -> None:
    assert [pair for _, pair in given("options = NO_TICKET", "options = -ALL").pairs("options")] == [
        (False, "NO_TICKET"), (True, "ALL")
    ]  # fmt: skip


def test_a_mistake_stands_at_its_line_or_for_a_default_at_the_sections_head() -> None:
    one = given("CAfile = a", "verify = 2")
    one.mistake("bad", "do this", one.last("verify"))
    one.mistake("bad", "do this", one.last("cafile"))
    one.mistake("bad", "do this")
    assert [str(error).split("\n")[:3] for error in one.errors] == [
        ["f:2: Service [dns]: bad", "    verify = 2", "    ~~~~~~~~~^"],
        *[["f:1: Service [dns]: bad", "    [dns]", "    ~~~~^"]] * 2,
    ]
