"""The table says "n/a" where a scenario is not for a forwarder, and counts only what was asked."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from tests.faults import forwarders, registry, results
from tests.faults.__main__ import _together
from tests.faults.report import Result

SECURE, SEALED = ("answers out of order", "11"), ("DNSCrypt: packets doubled, late and forged", "32")


def result(forwarder: str, what: tuple[str, str], *, passed: bool = True) -> Result:
    return Result(forwarder, what[1], what[0], passed, "figures", 1.0)


def test_what_a_forwarder_cannot_do_counts_for_nothing() -> None:
    found = [result("udp2tls", SECURE), result("udp2tls", SEALED), result("unbound", SECURE, passed=False)]
    rows = results.table(found).splitlines()
    assert rows[2] == "| 11 | answers out of order | pass | **fail** |"
    assert rows[3] == "| 32 | DNSCrypt: packets doubled, late and forged | pass | n/a |"
    assert rows[4] == "|  | passed | **2 of 2** | **0 of 1** |"


def test_scenarios_about_dnscrypt_need_it_and_the_others_nothing() -> None:
    for one in registry.scenarios():
        assert one.needs == ("dnscrypt" if one.name.startswith("DNSCrypt") else ""), one.name
        assert forwarders.can("udp2tls", one.needs)
        assert forwarders.can("unbound", one.needs) == (not one.needs)


def test_of_several_runs_the_last_one_of_each_scenario_counts(tmp_path: Path) -> None:
    runs = [
        [result("unbound", SECURE), result("udp2tls", SECURE, passed=False)],
        [result("udp2tls", SEALED), result("udp2tls", SECURE)],
    ]
    files = []
    for number, run in enumerate(runs):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps([dataclasses.asdict(one) for one in run]))
        files.append(str(file))
    assert _together(files) == [result("udp2tls", SECURE), result("udp2tls", SEALED), result("unbound", SECURE)]


def test_the_readme_compares_and_says_what_else_there_is() -> None:
    found = [result("udp2tls", SECURE), result("udp2tls", SEALED), result("unbound", SECURE, passed=False)]
    said = results.summary(found).splitlines()
    assert said[:4] == results.table([found[0], found[2]]).splitlines()
    assert said[3] == "|  | passed | **1 of 1** | **0 of 1** |"
    assert said[5].startswith("Besides, 1 of 1 scenarios passed that udp2tls alone can be put to, with DNSCrypt")
    alone = [result("udp2tls", SECURE), result("udp2tls", SEALED)]
    assert results.summary(alone) == results.table(alone)
