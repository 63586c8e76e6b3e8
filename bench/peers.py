"""Forwarders side by side: ``make bench-peers``. Eight and a half minutes with all of them.

One forwarder at a time, alone on one core, between dnsperf and a dnsdist that answers over
TLS at once, which share the other core. Distinct names, nothing cached, certificates
verified: with a wrong authority it must answer nothing, which is tried first.

The main figure is CPU time per answered query, user and system, of all its threads: it
holds on a noisy machine where queries per second do not. Every round has every forwarder
in turn, so that what else the machine does hits all; the tables show the medians. Ratios
within a run mean something, figures of two runs or machines beside each other do not.

A whole run writes peers.json, and from that the README's table and the plots; so does
``--report`` without measuring. A run of fewer rounds or forwarders only prints.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import findings, load
from bench.findings import STEPS, Step
from tests import authority
from tests.faults import forwarders, recipes
from tests.faults.recipes import Plan, Recipe

ROUNDS, SECONDS = 3, 3
_FLOOR = Path(__file__).with_name("floor.c")
_WRONG_CA_WAIT = 2.5

# Beyond the recipes of the fault suite, (old, new) in their files: connections and tables of
# queries must not be what limits here. Elsewhere these are the programs' defaults.
_TUNING = {
    "unbound": [(
        "  so-rcvbuf: 4m\n", "  so-rcvbuf: 4m\n  max-reuse-tcp-queries: 100000\n  tcp-reuse-timeout: 60000\n"
    )],
    "stubby": [("round_robin_upstreams: 0\n", "round_robin_upstreams: 0\nidle_timeout: 60000\n")],
    # The script as people use it: the kernel joins small writes, and no empty lists pile up for Lua's collector.
    "stunnel+lua": [
        ('    tcp:setoption("tcp-nodelay", true)\n', ""),
        ("table.remove(waiting, number)\n",
         "table.remove(waiting, number)\n          if #waiting == 0 then asked[answer:sub(1, 2)] = nil end\n"),
    ],
}  # fmt: skip


def build_floor(folder: Path) -> str:
    """Compile the yardstick and make a recipe of it; return why not, or an empty string."""
    if not shutil.which("cc"):
        return "no C compiler"
    binary = folder / "floor"
    done = subprocess.run(
        ["cc", "-O2", "-o", str(binary), str(_FLOOR), "-lssl", "-lcrypto"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return f"cc: {done.stderr.strip().splitlines()[0]} (libssl-dev?)"
    recipes.RECIPES["floor"] = lambda plan: Recipe(
        [[str(binary), str(plan.port), str(plan.upstreams[0][1]), plan.ca_file]]
    )
    return ""


def add_unmoderated() -> None:
    """Make a recipe of udp2tls without pauses, to see what they save and cost."""

    def unmoderated(plan: Plan) -> Recipe:
        plain = recipes.udp2tls(plan)
        return replace(plain, commands=[[*command, "--moderation", "off"] for command in plain.commands])

    recipes.RECIPES[findings.UNMODERATED] = unmoderated


def tune() -> None:
    """Change the recipes in this process by ``_TUNING``."""
    for name, changes in _TUNING.items():
        plain = recipes.RECIPES[name]

        def tuned(plan: Plan, plain: Any = plain, changes: Sequence[tuple[str, str]] = changes) -> Recipe:
            recipe: Recipe = plain(plan)
            files = recipe.files.copy()
            commands = [[_own_copy(word, files) for word in command] for command in recipe.commands]
            for old, new in changes:
                changed = {file: text.replace(old, new) for file, text in files.items()}
                if changed == files:
                    raise ValueError(f"the recipe no longer has {old!r}")
                files = changed
            return replace(recipe, files=files, commands=commands)

        recipes.RECIPES[name] = tuned


def _own_copy(word: str, files: dict[str, str]) -> str:
    """A script in a command joins the ``files`` that are written for each start, so that it can be changed."""
    if not word.endswith(".lua"):
        return word
    name = Path(word).name
    files[name] = Path(word).read_text(encoding="utf-8")
    return name


class Bench:
    """The upstream, and what every forwarder needs. ``folder`` gets a folder for each start."""

    def __init__(self, folder: Path, seconds: int) -> None:
        self._folder = folder
        self._seconds = seconds
        self._starts = 0
        self._certs = authority.make(folder)
        load.write_names(folder)
        self._upstream = load.Upstream(folder, self._certs.server_cert, self._certs.server_key)

    def close(self) -> None:
        self._upstream.close()

    def _forwarder(self, name: str, ca_file: str) -> forwarders.Forwarder:
        self._starts += 1
        folder = self._folder / f"{self._starts:03d}-{name}"
        folder.mkdir()
        (port,) = load.free_ports(1)
        return forwarders.Forwarder(name, Plan(port, (("127.0.0.1", self._upstream.port),), ca_file, folder))

    def verifies(self, name: str) -> bool:
        """True when it answers nothing from an upstream whose certificate a stranger has signed."""
        try:
            with load.on(load.cores()[0]), self._forwarder(name, self._certs.other_ca_file) as one:
                return not load.answers(one.port, _WRONG_CA_WAIT, lambda: one.alive)
        except forwarders.DidNotStart:
            return True  # it looked before it listened

    def round(self, name: str) -> dict[str, Any]:
        """Start a forwarder, load it in every way, stop it; return the figures by load."""
        one = self._forwarder(name, self._certs.ca_file)
        with ExitStack() as stack:
            with load.on(load.cores()[0]):
                stack.enter_context(one)
            if not load.answers(one.port, 12, lambda: one.alive):
                raise forwarders.DidNotStart(f"{name} does not answer: {one.log[-500:]}")
            load.dnsperf(self._folder, one.port, 20, 1, rate=2000)  # warm
            found: dict[str, Any] = {step.key: self._measured(one, step) for step in STEPS}
            found["resident_mb"] = round(one.resident(), 1)
        return found

    def _measured(self, one: forwarders.Forwarder, step: Step) -> dict[str, float]:
        before = one.cpu()
        if step.outstanding == 1:
            done = load.one_at_a_time(one.port, self._seconds)
        else:
            done = load.dnsperf(
                self._folder, one.port, step.outstanding, self._seconds, rate=step.rate, latencies=step.latencies
            )
        used = one.cpu() - before
        figures = {
            "cpu_us": 1e6 * used / max(1, done.answered),
            "per_second": done.answered / max(0.001, done.seconds),
            "lost_percent": done.lost_percent,
            "busy_percent": 100 * used / max(0.001, done.seconds),
            "mean_us": done.mean,
        }
        if step.latencies:
            figures |= {"median_us": done.median, "centile99_us": done.centile99}
        return {what: round(value, 2) for what, value in figures.items()}


def measure(bench: Bench, names: Sequence[str], rounds: int) -> dict[str, Any]:
    """Run all rounds and print each; return {"programs": ..., "rounds": ...}."""
    programs: dict[str, Any] = {}
    results: dict[str, list[dict[str, Any]]] = {}
    for name in names:
        programs[name] = {"version": _version(name), "verifies": bench.verifies(name)}
        print(f"{name} {programs[name]['version']}: {'' if programs[name]['verifies'] else 'DOES NOT VERIFY, '}"
              f"{'nothing' if programs[name]['verifies'] else 'answers'} with a wrong CA", flush=True)  # fmt: skip
    for number in range(1, rounds + 1):
        for name in names:
            try:
                found = bench.round(name)
            except forwarders.DidNotStart as error:
                print(f"round {number}, {name}: {error}", flush=True)
                continue
            results.setdefault(name, []).append(found)
            costs = ", ".join(f"{step.title}: {found[step.key]['cpu_us']:.1f}" for step in STEPS)
            print(f"round {number}, {name}: us per query at {costs}", flush=True)
    return {"programs": programs, "rounds": results}


def _version(name: str) -> str:
    if name != "floor":
        return forwarders.version(name)
    return subprocess.run(["cc", "-dumpversion"], capture_output=True, text=True, check=True).stdout.strip()


def _revision() -> str:
    """Say which udp2tls it was, "-dirty" if it had other Python than that; "" where there is no git."""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=recipes.CHECKOUT, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "*.py")
    return git("describe", "--always") + ("-dirty" if changed else "")


def _machine() -> dict[str, Any]:
    """Say what it ran on."""
    system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    cpus = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")]  # fmt: skip
    busy = Path("/proc/loadavg").read_text().split()[0]
    return {
        "processors": f"{len(cpus)} x {cpus[0]}" if cpus else platform.machine(), "system": system,
        "kernel": platform.release(), "python": platform.python_version(), "load_before": float(busy),
    }  # fmt: skip


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no process may outlive this
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="Measure forwarders side by side.")
    known = ("udp2tls", findings.UNMODERATED, "floor", *forwarders.PEERS)
    parser.add_argument("--only", default=",".join(known), help="which, with commas between (default: all installed)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"of each of the loads (default: {SECONDS})")
    parser.add_argument(
        "--report", action="store_true", help="measure nothing, write from peers.json (--only: of these)"
    )
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(known):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    if options.report:
        findings.write(findings.of(wanted, findings.read()))
        return
    if absent := load.missing():
        raise SystemExit(f"bench.peers needs {absent}")
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="udp2tls-peers-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)  # some give up root before they read
        tune()
        add_unmoderated()
        reasons = {"floor": build_floor(folder)} if "floor" in wanted else {}
        reasons |= {name: forwarders.missing(name) for name in wanted if name != "floor"}
        for name, reason in reasons.items():
            if reason:
                print(f"{name} is left out: {reason}")
        machine = _machine()
        bench = Bench(folder, options.seconds)
        try:
            found = measure(bench, [name for name in wanted if not reasons[name]], options.rounds)
        finally:
            bench.close()
    settings = {
        "rounds": options.rounds, "seconds": options.seconds, "taken": time.strftime("%Y-%m-%d", time.gmtime()),
        "revision": _revision(), "moderation": "auto",
    }  # fmt: skip
    everything = findings.complete({"settings": settings, "machine": machine, **found})
    print(f"\n{findings.report(everything)}\n{time.monotonic() - begin:.0f} s")
    if options.rounds >= ROUNDS and set(wanted) == set(known):
        findings.FILE.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
        findings.write(everything)
    else:
        print("nothing written: not a whole run")


if __name__ == "__main__":
    main()
