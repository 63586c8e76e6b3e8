"""``--workers 2`` beside one: ``python -m bench.workers``. Two minutes; needs dnsdist, dnsperf and two cores.

Load (dnsperf) and upstream (dnsdist, over TLS) are ``load``'s. Three ways, in turn in every round:

    apart      one worker, alone on a core; load and upstream share another
    one, two   so many workers; they, the load and the upstream share the same two cores,
               and the kernel says who runs where

Whatever of two cores the second worker takes is missing to load and upstream, so the last
two say what sharing the clients out costs and brings where nothing is left over, not what
it would bring on a machine with cores to spare. ``cost``: CPU time of all its processes,
user and system, per answered query. ``busier``: the larger part of that which is one
worker's: the kernel shares out clients, and dnsperf is ten of them. These are medians of the rounds;
queries per second are the most of any round, for whatever else the machine does takes some away.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from bench import load
from tests import authority
from tests.faults import forwarders, recipes
from tests.faults.recipes import Plan, Recipe

ROUNDS, SECONDS = 3, 3


@dataclass(frozen=True)
class Way:
    """``workers`` of them, and whether load and upstream keep off their core."""

    title: str
    workers: int
    apart: bool = False


WAYS = (Way("1 worker, a core to itself", 1, apart=True), Way("1 worker", 1), Way("2 workers", 2))

# Outstanding queries, queries a second at most (0: as fast as answers come).
LOADS = {"5000/s": (1000, 5000), "25 000/s": (1000, 25_000), "100 outstanding": (100, 0), "1000 outstanding": (1000, 0)}


@dataclass(frozen=True)
class Figures:
    """Of one load."""

    cost: float  # microseconds
    per_second: float
    lost_percent: float
    busier_percent: float


def recipe(plan: Plan, workers: int) -> Recipe:
    plain = recipes.udp2tls(plan)
    return replace(plain, commands=[[*command, "--workers", str(workers)] for command in plain.commands])


def measure(folder: Path, number: int, way: Way, certs: authority.Authority, seconds: int) -> dict[str, Figures]:
    """Start upstream and forwarder, load them in every way, stop them."""
    folder = folder / f"{number:02d}"
    folder.mkdir()
    load.write_names(folder)
    core, others = load.cores() if way.apart else (load.cores()[0] | load.cores()[1],) * 2
    upstream = load.Upstream(folder, certs.server_cert, certs.server_key, where=others)
    try:
        recipes.RECIPES["workers"] = lambda plan: recipe(plan, way.workers)
        (port,) = load.free_ports(1)
        with load.on(core):
            one = forwarders.Forwarder("workers", Plan(port, (("127.0.0.1", upstream.port),), certs.ca_file, folder))
            one.__enter__()
        try:
            # Many sockets, so that every worker has had a query and its connection.
            if not all(load.answers(port, 10, lambda: one.alive) for _ in range(20)):
                raise RuntimeError(f"it does not answer: {one.log[-500:]}")
            load.dnsperf(folder, port, 20, 1, rate=2000, where=others)
            return {title: _loaded(folder, one, *how, seconds, others) for title, how in LOADS.items()}
        finally:
            one.stop()
    finally:
        upstream.close()


def _loaded(
    folder: Path, one: forwarders.Forwarder, outstanding: int, rate: int, seconds: int, where: set[int]
) -> Figures:
    before = one.cpus()
    done = load.dnsperf(folder, one.port, outstanding, seconds, rate=rate, where=where)
    used = [after - was for after, was in zip(one.cpus(), before)]
    return Figures(
        cost=1e6 * sum(used) / max(1, done.answered), per_second=done.answered / done.seconds,
        lost_percent=done.lost_percent, busier_percent=100 * max(used) / max(1e-9, sum(used)),
    )  # fmt: skip


def report(found: dict[Way, list[dict[str, Figures]]]) -> str:
    """Return Markdown: a row for each way and load."""
    lines = ["| load | | CPU us per query | busier | lost | queries/s, best round |", "|" + " --- |" * 6]
    for title in LOADS:
        for way, rounds in found.items():
            of = [one[title] for one in rounds]
            cost = statistics.median(one.cost for one in of)
            busier = statistics.median(one.busier_percent for one in of)
            lost = statistics.median(one.lost_percent for one in of)
            most = max(one.per_second for one in of)
            lines.append(f"| {title} | {way.title} | {cost:.1f} | {busier:.0f} % | {lost:.1f} % | {most:.0f} |")
    return "\n".join(lines)


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no process may outlive this
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description="Two workers beside one.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"of each of the loads (default: {SECONDS})")
    options = parser.parse_args()
    if absent := load.missing():
        raise SystemExit(f"bench.workers needs {absent}")
    if not load.cores()[0]:
        raise SystemExit("bench.workers needs two cores")
    found: dict[Way, list[dict[str, Figures]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="udp2tls-workers-") as temporary:
        folder = Path(temporary)
        certs = authority.make(folder)
        for number in range(options.rounds * len(WAYS)):
            way = WAYS[number % len(WAYS)]
            found[way].append(measure(folder, number, way, certs, options.seconds))
            costs = ", ".join(f"{title}: {one.cost:.1f}" for title, one in found[way][-1].items())
            print(f"round {number // len(WAYS) + 1}, {way.title}: us per query at {costs}", flush=True)
    print(f"\n{report(found)}")


if __name__ == "__main__":
    main()
