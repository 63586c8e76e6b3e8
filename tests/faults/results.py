"""The table: scenarios by forwarders."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from tests.faults import forwarders, registry
from tests.faults.report import Result

FILE = Path(__file__).with_name("RESULTS.md")
README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- faults: written by make faults PEERS=1 -->\n", "<!-- /faults -->"


def table(results: Sequence[Result]) -> str:
    """Return a Markdown table: pass or fail for each, and how many of them passed.

    "n/a": the forwarder cannot do what the scenario is about. It counts for nothing.
    """
    names = list(dict.fromkeys(result.forwarder for result in results))
    rows = list(dict.fromkeys((result.number, result.scenario) for result in results))
    cells = {(result.scenario, result.forwarder): "pass" if result.passed else "**fail**" for result in results}
    lines = [_row("", "scenario", *names), _row(*["---"] * (len(names) + 2))]
    for one in registry.scenarios():
        cells |= {(one.name, name): "n/a" for name in names if not forwarders.can(name, one.needs)}
    lines += [_row(number, scenario, *(cells.get((scenario, name), "") for name in names)) for number, scenario in rows]
    counts = []
    for name in names:
        own = [result.passed for result in results if result.forwarder == name]
        counts.append(f"**{sum(own)} of {len(own)}**")
    lines.append(_row("", "passed", *counts))
    return "\n".join(lines) + "\n"


def compared(results: Sequence[Result]) -> list[Result]:
    """Return those of scenarios that more than one of the forwarders can be put to."""
    names = dict.fromkeys(result.forwarder for result in results)
    needs = {one.name: one.needs for one in registry.scenarios()}
    return [one for one in results if sum(forwarders.can(name, needs.get(one.scenario, "")) for name in names) > 1]


def summary(results: Sequence[Result]) -> str:
    """Return the README's part: the table of what is compared, and how many there are besides."""
    shared = compared(results)
    rest = [one for one in results if one not in shared]
    if not shared or not rest:
        return table(results)
    passed = f"{sum(one.passed for one in rest)} of {len(rest)} scenarios passed"
    link = "[RESULTS.md](tests/faults/RESULTS.md)"
    return f"{table(shared)}\nBesides, {passed} that udp2tls alone can be put to, with DNSCrypt: {link}.\n"


def failures(results: Sequence[Result]) -> str:
    """Return a list of what failed, with its figures."""
    return "".join(
        f"- {result.forwarder}, {result.scenario}: {result.figures}\n" for result in results if not result.passed
    )


def write(results: Sequence[Result]) -> None:
    """Write RESULTS.md, and the table into the README."""
    names = dict.fromkeys(result.forwarder for result in results)
    versions = ", ".join(f"{name} {forwarders.version(name)}" for name in names)
    today = datetime.datetime.now(datetime.UTC).date()
    FILE.write_text(
        f"""# Results

Written by `make faults PEERS=1` on {today}, from the last run of each scenario with each forwarder; not to be
edited. {versions};
Python {platform.python_version()}, {platform.system()} {platform.release()}, {os.cpu_count()} processors.
What each scenario does and asks for is in [its docstring](scenarios/).

{table(results)}
## What failed, and by how much

{failures(results)}""",
        encoding="utf-8",
    )
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}{summary(results)}{END}{after}", encoding="utf-8")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
