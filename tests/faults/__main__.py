"""``python -m tests.faults``: the suite from the command line."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
import tempfile
from pathlib import Path

from tests import authority
from tests.faults import forwarders, registry, results, runner
from tests.faults.report import Result


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no forwarder may outlive this
    options = _options()
    if options.write:
        results.write(_together(options.write))
        return 0
    wanted = [one for one in registry.scenarios() if any(map(one.matches, options.scenario or ["*"]))]
    if not wanted:
        sys.exit("no such scenario")
    if options.list:
        for one in wanted:
            print(f"{one.number:>3} {one.name}\n    {(one.play.__doc__ or '').strip()}\n")
        return 0
    names = options.forwarder or (forwarders.NAMES if options.peers else ["udp2tls"])
    found: list[Result] = []
    with tempfile.TemporaryDirectory(prefix="faults-certs-") as folder:
        certs = authority.make(Path(folder))
        for name in names:
            if missing := forwarders.missing(name):
                print(f"{name} is left out: {missing} is not installed", flush=True)
                continue
            for one in wanted:
                if not forwarders.can(name, one.needs):
                    continue
                result = runner.run(one, name, certs, long=options.long, scale=options.scale)
                found.append(result)
                said = "pass" if result.passed else "FAIL"
                print(f"{said} {name} {result.number} {result.scenario} ({result.seconds:.0f} s): {result.figures}",
                      flush=True)  # fmt: skip
    if options.json:
        Path(options.json).write_text(json.dumps([dataclasses.asdict(one) for one in found], indent=1))
    if options.table or options.peers:
        print("\n" + results.table(found))
    if options.peers and not options.scenario and not options.forwarder:
        results.write(found)
    print(f"{sum(one.passed for one in found)} of {len(found)} passed")
    return 0 if all(one.passed for one in found if one.forwarder == "udp2tls") else 1


def _together(files: list[str]) -> list[Result]:
    """Return the results of several runs; of a scenario that a forwarder had in more than one, the last one's."""
    found: dict[tuple[str, str], Result] = {}
    for file in files:
        for result in (Result(**one) for one in json.loads(Path(file).read_text())):
            found[result.forwarder, result.scenario] = result
    order = [one.name for one in registry.scenarios()]
    return [found[name, one] for name in forwarders.NAMES for one in order if (name, one) in found]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="fault injection for DNS forwarders")
    parser.add_argument("--forwarder", action="append", choices=forwarders.NAMES, metavar="NAME",
                        help=f"one of {', '.join(forwarders.NAMES)}; repeatable; default udp2tls")  # fmt: skip
    parser.add_argument("--peers", action="store_true", help="all that are installed; writes RESULTS.md")
    parser.add_argument("--scenario", action="append", metavar="PATTERN",
                        help="a number, or a part of a name; repeatable; default all")  # fmt: skip
    parser.add_argument("--long", action="store_true", help="the long version of scenarios that have one")
    parser.add_argument("--scale", type=float, default=1.0, help="stretch limits of time, for a busy machine")
    parser.add_argument("--json", metavar="FILE", help="write the results there also")
    parser.add_argument("--write", metavar="FILE", nargs="+",
                        help="run nothing; write RESULTS.md and README's table from these --json files")  # fmt: skip
    parser.add_argument("--table", action="store_true", help="print a Markdown table at the end")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
