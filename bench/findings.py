"""What ``peers`` found, as tables and plots. Nothing is measured here.

The findings are what peers.json holds: settings, machine, programs, rounds (by forwarder,
a list; each has figures by load), and what follows from those: medians and ratios.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import plot

FOLDER = Path(__file__).parent
FILE = FOLDER / "peers.json"
README = FOLDER.parent / "README.md"
BEGIN, END = "<!-- speed: written by make bench-peers -->\n", "<!-- /speed -->"

# From so many per cent of queries without an answer on, a cost says little.
MUCH_LOST = 5.0

# udp2tls once more, with this option.
UNMODERATED = "udp2tls --moderation off"

_TITLES = {
    "floor": "the same job in plain C ([floor.c](bench/floor.c))",
    "udp2tls": "**udp2tls**",
    UNMODERATED: "udp2tls `--moderation off`",
    "stunnel+lua": "stunnel {} and a Lua script",
}
_SHORT = {"floor": "plain C"}  # in the plots


@dataclass(frozen=True)
class Step:
    """One way to load a forwarder. ``rate`` 0: as fast as answers come."""

    key: str
    title: str
    outstanding: int
    rate: int = 0
    latencies: bool = False  # written down one by one, which costs dnsperf: only where there is time for it


STEPS = (
    Step("q1", "1 outstanding", 1, latencies=True),
    Step("r5000", "5000/s", 1000, 5000, latencies=True),
    Step("r25000", "25 000/s", 1000, 25000),
    Step("q100", "100 outstanding", 100),
    Step("q1000", "1000 outstanding", 1000),
)


def read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return complete(found)


def of(names: Sequence[str], found: dict[str, Any]) -> dict[str, Any]:
    """Leave out the forwarders that are not in ``names``."""
    return complete(found | {"rounds": {name: rounds for name, rounds in found["rounds"].items() if name in names}})


def complete(found: dict[str, Any]) -> dict[str, Any]:
    """Add what follows from the rounds: medians by forwarder and load, and udp2tls' cost beside each."""
    medians = {name: _medians(rounds) for name, rounds in found["rounds"].items()}
    found["medians"] = medians
    if "udp2tls" in medians:
        found["udp2tls_over_peer"] = {
            name: {step.key: _ratio(medians, name, step.key) for step in STEPS} for name in medians if name != "udp2tls"
        }
    return found


def _ratio(medians: dict[str, Any], name: str, key: str) -> float:
    return round(float(medians["udp2tls"][key]["cpu_us"] / medians[name][key]["cpu_us"]), 2)


def _medians(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each figure over the rounds, two levels deep."""
    return {
        key: _medians([one[key] for one in rounds]) if isinstance(value, dict)
        else round(statistics.median(one[key] for one in rounds), 2)
        for key, value in rounds[0].items()
    }  # fmt: skip


def _order(found: dict[str, Any]) -> list[str]:
    """Cheapest first at 100 outstanding."""
    return sorted(found["medians"], key=lambda name: float(found["medians"][name]["q100"]["cpu_us"]))


def _title(found: dict[str, Any], name: str) -> str:
    program = found["programs"][name]
    title = _TITLES.get(name, f"{name} {{}}").format(program["version"].partition("+")[0])
    return title if program["verifies"] else f"{title}, certificate not verified"


def table(found: dict[str, Any]) -> str:
    """Return the README's table."""
    head = [
        "CPU microseconds per answered query", *(step.title for step in STEPS), "lost at 1000",
        "latency at 5000/s, median", "99 %", "memory",
    ]  # fmt: skip
    lines = [_row(head), _row(["---"] * len(head))]
    marked = False
    for name in _order(found):
        one = found["medians"][name]
        lossy = [one[step.key]["lost_percent"] >= MUCH_LOST for step in STEPS]
        marked |= any(lossy)
        costs = [f"{one[step.key]['cpu_us']:.1f}{' (!)' * bad}" for step, bad in zip(STEPS, lossy)]
        if name == "udp2tls":
            costs = [f"**{cost}**" for cost in costs]
        lost, slow = one["q1000"]["lost_percent"], one["r5000"]
        lines.append(_row([
            _title(found, name), *costs, f"{lost:.1f} %" if lost >= 0.05 else "0",
            f"{slow['median_us']:.0f} us", f"{slow['centile99_us']:.0f} us", f"{one['resident_mb']:.0f} MB",
        ]))  # fmt: skip
    if marked:
        lines += ["", f"(!): {MUCH_LOST:.0f} % or more of the queries got no answer."]
    return "\n".join(lines) + "\n"


def caption(found: dict[str, Any]) -> str:
    """Say when, how and where it was measured."""
    settings, machine = found["settings"], found["machine"]
    before = "" if "moderation" in settings else ", before there was moderation"
    return (
        f"Medians of {settings['rounds']} rounds, {settings['seconds']} s each load, {settings['taken']}, "
        f"udp2tls at {settings['revision']}{before}; "
        f"{machine['processors']}, {machine['system']}, Python {machine['python']}. "
        "Plots: [cost](bench/cost.svg), [latency](bench/latency.svg).\n"
    )


def comparison(found: dict[str, Any]) -> str:
    """Say in one sentence what udp2tls takes beside those whom its users come from; "" where they are not."""
    parts = []
    for name, title in ("dnsdist", "dnsdist's"), ("stunnel+lua", "that of stunnel and a Lua script together"):
        if ratios := found.get("udp2tls_over_peer", {}).get(name):
            said = ", ".join(f"{ratios[step.key]:.2f} at {step.title}" for step in STEPS)
            parts.append(f"by {title}: {said}")
    return f"CPU time of udp2tls divided {'; '.join(parts)}.\n" if parts else ""


def block(found: dict[str, Any]) -> str:
    """Return all that the README says of the measurement, between its marks."""
    return "\n".join(filter(None, (table(found), comparison(found), caption(found))))


def plots(found: dict[str, Any]) -> dict[str, str]:
    """Return the plots, by the names of their files."""
    names, titles = _order(found), [step.title for step in STEPS]
    drawn = {}
    for file, figure, what in ("cost", "cpu_us", "CPU time per answered query"), ("latency", "mean_us", "mean latency"):
        series = {
            _SHORT.get(name, name): [float(found["medians"][name][step.key][figure]) for step in STEPS]
            for name in names
        }
        drawn[f"{file}.svg"] = plot.chart(f"{what}, microseconds", titles, series, foremost="udp2tls")
    return drawn


def report(found: dict[str, Any]) -> str:
    """Return everything as Markdown for a terminal: the table, the ratios, who limits."""
    parts = [table(found), caption(found)]
    ratios = found.get("udp2tls_over_peer", {})
    names = [name for name in _order(found) if name in ratios]
    if names:
        head = ["udp2tls' cost over that of", *(step.title for step in STEPS)]
        rows = [[name, *(f"{ratios[name][step.key]:.2f}" for step in STEPS)] for name in names]
        parts.append("\n".join(map(_row, [head, ["---"] * len(head), *rows])) + "\n")
    head = ["queries/s (its core busy)", *(step.title for step in STEPS)]
    rows = [
        [name, *(f"{one[step.key]['per_second']:.0f} ({one[step.key]['busy_percent']:.0f} %)" for step in STEPS)]
        for name, one in ((name, found["medians"][name]) for name in _order(found))
    ]
    parts.append("\n".join(map(_row, [head, ["---"] * len(head), *rows])) + "\n")
    return "\n".join(parts)


def write(found: dict[str, Any]) -> None:
    """Write table and caption into the README, and the plots. Raises ValueError when the README has lost its marks."""
    text = README.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md has no {BEGIN.strip()} … {END}")
    README.write_text(f"{before}{BEGIN}{block(found)}{END}{after}", encoding="utf-8")
    for file, svg in plots(found).items():
        (FOLDER / file).write_text(svg, encoding="utf-8")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
