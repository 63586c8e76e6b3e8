"""What the README says of speed is what was measured: bench/peers.json, as ``bench/findings.py`` words it."""

from __future__ import annotations

from typing import Any

import pytest

from bench import findings


def published() -> str:
    text = findings.README.read_text(encoding="utf-8")
    return text.partition(findings.BEGIN)[2].partition(findings.END)[0]


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """Give the findings, of the forwarders that the README has."""
    everything = findings.read()
    rows = {row for row in published().splitlines() if row.startswith("|")}
    shown = [name for name in everything["rounds"] if set(row_of(everything, name)) & rows]
    return findings.of(shown, everything)


def row_of(everything: dict[str, Any], name: str) -> list[str]:
    return findings.table(findings.of([name], everything)).splitlines()[2:3]


def test_the_table_and_what_is_said_of_it_come_from_the_measurement(found: dict[str, Any]) -> None:
    assert {"udp2tls", "dnsdist", "floor"} <= set(found["medians"])
    assert published() == findings.block(found)


def test_the_plots_come_from_the_measurement(found: dict[str, Any]) -> None:
    for file, svg in findings.plots(found).items():
        assert (findings.FOLDER / file).read_text(encoding="utf-8") == svg


def test_the_readme_claims_only_what_was_measured(found: dict[str, Any]) -> None:
    """That udp2tls costs less under load than dnsdist, and than stunnel with a script."""
    for name, ratios in found["udp2tls_over_peer"].items():
        if name in ("dnsdist", "stunnel+lua"):
            assert ratios["q100"] < 1
            assert ratios["q1000"] < 1


def test_who_comes_beside_udp2tls_is_named() -> None:
    step = {"cpu_us": 10.0, "lost_percent": 0.0, "mean_us": 100.0, "median_us": 90.0, "centile99_us": 200.0}
    half = {"cpu_us": 5.0} | {key: step[key] for key in step if key != "cpu_us"}

    def rounds(of: dict[str, float]) -> list[dict[str, Any]]:
        return [{one.key: of for one in findings.STEPS} | {"resident_mb": 20.0}]

    programs = {"version": "1.0", "verifies": True}
    names = ("udp2tls", findings.UNMODERATED, "stunnel+lua")
    everything = findings.complete({
        "settings": {"rounds": 1, "seconds": 1, "taken": "2026-01-01", "revision": "abc", "moderation": "auto"},
        "machine": {"processors": "2 x C", "system": "S", "python": "3.11.7"},
        "programs": dict.fromkeys(names, programs),
        "rounds": {"udp2tls": rounds(half), findings.UNMODERATED: rounds(step), "stunnel+lua": rounds(step)},
    })  # fmt: skip
    said = findings.block(everything)
    assert "| udp2tls `--moderation off` |" in said
    assert "| stunnel 1.0 and a Lua script |" in said
    assert "divided by that of stunnel and a Lua script together: 0.50 at 1 outstanding, 0.50 at 5000/s" in said
    assert "udp2tls at abc; 2 x C" in said
    assert set(findings.plots(everything)) == {"cost.svg", "latency.svg"}
