"""Two revisions side by side: ``make bench-compare BASE=REV``.

The other revision is checked out into a temporary folder. Then the hot-path groups run
old, new, old, new: what else the machine does hits both. pytest-benchmark keeps the runs
and compares them, and draws a histogram of every benchmark into .benchmarks/compare/.

Both run today's benchmarks, so that the same thing is measured; those that fail on the
other revision are left out, and said so. ``--own``: each runs the benchmarks of its own
time, for revisions that today's know nothing of.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".benchmarks" / "compare"  # git ignores it
HOT_PATH = "turn or test_key or pending or tls or edns"
ROUNDS = 2


def checkout(revision: str, folder: Path) -> str:
    """Put ``revision`` into ``folder``; return its short name. Raises SystemExit if there is none."""
    found = subprocess.run(
        ["git", "rev-parse", "--verify", "--quiet", "--short", f"{revision}^{{commit}}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if found.returncode:
        raise SystemExit(f"bench.compare: {revision!r} is no revision here")
    name = found.stdout.strip()
    # A clone, not a worktree: it leaves nothing behind in this repository if it is interrupted.
    subprocess.run(["git", "clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "-c", "advice.detachedHead=false", "checkout", "--quiet", name], cwd=folder, check=True)
    return name


def use_todays_benchmarks(folder: Path) -> None:
    shutil.rmtree(folder / "bench")
    shutil.copytree(ROOT / "bench", folder / "bench", ignore=shutil.ignore_patterns("__pycache__"))


def run(folder: Path, name: str, select: str) -> None:
    """Run the benchmarks of the tree in ``folder`` and keep the figures as ``name``. Raises SystemExit."""
    _check_it_is_imported(folder)
    command = [
        sys.executable, "-m", "pytest", "bench", "-q", "-p", "no:cacheprovider", "-k", select, "--benchmark-quiet",
        f"--benchmark-storage={FOLDER.as_uri()}", f"--benchmark-save={name}",
    ]  # fmt: skip
    before = len(kept())
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if len(kept()) == before:
        print(done.stdout[-4000:], done.stderr[-2000:])
        raise SystemExit(f"bench.compare: no benchmark of {name} ran")
    for line in done.stdout.splitlines():
        if line.startswith(("FAILED", "ERROR")):
            print(f"{name}: left out: {line}")
    print(f"{name}: ran, {len(kept())} of the runs are done", flush=True)


def kept() -> list[Path]:
    return list(FOLDER.glob("*/*.json"))


def _check_it_is_imported(folder: Path) -> None:
    """An editable install of one tree must not be measured in the name of another."""
    command = [sys.executable, "-c", "import _udp2tls; print(_udp2tls.__file__)"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    if not Path(done.stdout.strip()).is_relative_to(folder.resolve()):
        raise SystemExit(f"bench.compare: Python imports {done.stdout.strip()}, not what is in {folder}")


def show(sort: str) -> None:
    """Print pytest-benchmark's comparison of everything that is kept, and draw it."""
    command = [
        str(Path(sys.executable).with_name("pytest-benchmark")), f"--storage={FOLDER.as_uri()}", "compare",
        "--group-by=fullname", f"--sort={sort}", "--columns=min,median,iqr,rounds", "--name=normal",
        f"--histogram={FOLDER / 'histogram'}",
    ]  # fmt: skip
    subprocess.run(command, cwd=ROOT, check=True)
    print(f"histograms: {len(list(FOLDER.glob('*.svg')))} SVG files in {FOLDER}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.compare", description="Compare with another revision.")
    parser.add_argument("base", metavar="REV", help="the revision to compare this tree with")
    parser.add_argument("-k", dest="select", default=HOT_PATH, help=f"which benchmarks (default: {HOT_PATH})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how often old, new (default: {ROUNDS})")
    parser.add_argument("--sort", choices=("min", "mean", "name"), default="min", help="order (default: min)")
    parser.add_argument("--own", action="store_true", help="each revision runs the benchmarks of its own time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="udp2tls-compare-") as temporary:
        base = Path(temporary) / "base"
        name = checkout(options.base, base)
        if not options.own:
            use_todays_benchmarks(base)
        shutil.rmtree(FOLDER, ignore_errors=True)  # what an earlier comparison left would be compared as well
        for _ in range(options.rounds):
            run(base, f"old-{name}", options.select)
            run(ROOT, "new", options.select)
    show(options.sort)


if __name__ == "__main__":
    main()
