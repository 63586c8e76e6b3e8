"""Runs the cases recorded from the real stunnel, several at once, for nearly all of a case's time is waiting.

``python -m tests.stunnel_confs.recorded FOLDER WORK COMMAND``: the cases' folder, one to work in, and what runs
``{conf}``. Prints a line for each case whose verdict is not stunnel's, and at last how many there were.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import util
from pathlib import Path
from typing import Any

from tests.peers import programs

AT_ONCE = 4
PATIENCE = 1.5  # seconds


class Ports:
    """Gives each port once: a case looks for its ports long before it listens on them."""

    def __init__(self) -> None:
        self._given: set[int] = set()
        self._lock = threading.Lock()

    def __call__(self, *_: object) -> int:
        with self._lock:
            while (port := programs.free_port()) in self._given:
                pass
            self._given.add(port)
        return port


def load(file: Path) -> Any:
    spec = util.spec_from_file_location("run_cases", file)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(folder: Path, work: Path, command: str) -> int:
    run_cases = load(folder / "run_cases.py")
    run_cases.free_port = Ports()
    pki = str(work / "pki")
    run_cases.make_pki(pki)
    arguments = argparse.Namespace(
        cmd=command, work=str(work), timeout=PATIENCE, start_timeout=8.0, settle=0.05, udp=True, keep=False,
        verbose=False,
    )  # fmt: skip
    cases = json.loads((folder / "cases.json").read_text())["cases"]
    results = json.loads((folder / "results_stunnel.json").read_text())["results"]
    verdicts = {result["id"]: result["verdict"] for result in results}

    def differs(case: Mapping[str, Any]) -> bool:
        verdict = run_cases.run_case(case, arguments, pki)["verdict"]
        wanted = verdicts[case["id"]]
        if verdict == wanted or verdict in case.get("allow", []):
            return False
        print(f"{case['id']}: {verdict}, stunnel: {wanted}", flush=True)
        return True

    with ThreadPoolExecutor(AT_ONCE) as pool:
        different = sum(pool.map(differs, cases))
    print(f"{len(cases)} cases, {different} verdicts differ")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
