"""Fixtures of the benchmarks, and the two tables after them. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from _udp2tls import demo
from bench.meter import Meter

# pytest-benchmark's fixtures of the benchmarks that ran.
_RAN = pytest.StashKey[list[Any]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RAN] = []


@pytest.fixture
def meter(benchmark: Any, pytestconfig: pytest.Config) -> Iterator[Meter]:
    """What times the benchmark; it is in the tables if it ran."""
    yield Meter(benchmark)
    if benchmark.stats:
        pytestconfig.stash[_RAN].append(benchmark)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> demo.Files:
    """A throwaway authority and certificate."""
    return demo.certificates(str(tmp_path_factory.mktemp("certificates")))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    ran = config.stash[_RAN]
    parts = [_part_row(one) for one in ran if "batch" in one.extra_info]
    whole = [_whole_row(one.extra_info) for one in ran if "outstanding" in one.extra_info]
    write, section = terminalreporter.write_line, terminalreporter.section
    if parts:
        section("microseconds per query")
        for line in _table(("group", "what", "batch", "median", "fastest"), parts, texts=2):
            write(line)
    if whole:
        section("end to end: dnsperf over UDP, udp2tls, dnsdist over TLS")
        head = ("outstanding", "queries/s", "lost %", "CPU us/query", "user", "system", "forwarder busy %")
        for line in _table(head, whole, texts=0):
            write(line)


def _part_row(one: Any) -> tuple[str, ...]:
    batch = one.extra_info["batch"]
    what = str(one.name).removeprefix("test_").partition("[")[0].replace("_", " ")
    params = [str(value) for name, value in (one.params or {}).items() if name != "batch"]
    median, fastest = (1e6 * float(one.stats[key]) / batch for key in ("median", "min"))
    return one.group, " ".join((what, *params)), str(batch), f"{median:.2f}", f"{fastest:.2f}"


def _whole_row(info: dict[str, float]) -> tuple[str, ...]:
    return (
        f"{info['outstanding']:.0f}", f"{info['per_second']:.0f}", f"{info['lost_percent']:.2f}",
        f"{info['cpu_us']:.1f}", f"{info['user_us']:.1f}", f"{info['system_us']:.1f}", f"{info['busy_percent']:.0f}",
    )  # fmt: skip


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]], texts: int) -> list[str]:
    """Return lines; the first ``texts`` columns are words, the others numbers."""
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    return [
        "  ".join(cell.ljust(w) if at < texts else cell.rjust(w) for at, (cell, w) in enumerate(zip(row, widths)))
        for row in (head, *rows)
    ]
