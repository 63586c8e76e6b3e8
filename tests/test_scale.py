"""A query costs as much among many as among few: ``bench/scale.py``.

No clock: interpreter instructions are counted, for the first and the last point of each
curve. That is done in a process of its own, for sys.settrace here belongs to debuggers and
to coverage.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from _udp2tls import demo
from bench import scale
from bench.crowd import Crowd, Size
from bench.scale import Point

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> demo.Files:
    return demo.certificates(str(tmp_path_factory.mktemp("certificates")))


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts CPython's instructions")
def test_a_query_costs_no_more_among_many(tmp_path: Path) -> None:
    file = tmp_path / "scale.json"
    # -E: what the environment may ask of Python (-O, -X dev) would change the count.
    command = [
        sys.executable,
        "-E",
        "-m",
        "bench.scale",
        "--ends",
        "--rounds",
        "0",
        "--curves-only",
        "--json",
        str(file),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert not done.returncode, done.stderr
    points = [Point(**point) for point in json.loads(file.read_text())["curves"]]
    assert [point.curve for point in points] == [name for name in scale.CURVES for _ in range(2)]
    said = scale.steep(points)
    if said:
        pytest.fail("\n".join(said), pytrace=False)


def test_a_curve_that_rises_is_noticed() -> None:
    curve = "pending queries"
    points = [Point(curve, 0, 1000.0), Point(curve, 10, 2000.0), Point(curve, 50, 1090.0), Point("other", 1, 9999.0),
              Point("other", 2, 9999.0)]  # fmt: skip
    assert scale.steep(points) == []
    (said,) = scale.steep([points[0], Point(curve, 50, 1110.0)])
    assert said.startswith("pending queries: 1000.0 instructions a query with 0, 1110.0 with 50, +11.0 %")
    assert scale.report(points).count(curve) == 1


@pytest.mark.parametrize(
    ("size", "links"),
    [
        (Size(clients=3, pending=100), 1), (Size(upstreams=3), 1), (Size(upstreams=3, strategy="rotate"), 3),
        (Size(listeners=3), 1), (Size(services=3), 3),
    ],
)  # fmt: skip
def test_the_crowd_is_as_large_as_was_asked_for(files: demo.Files, size: Size, links: int) -> None:
    with Crowd(files, size) as crowd:
        before = crowd.answered
        for _ in range(10):
            crowd.both_turns()
        assert crowd.answered == before + 10
        assert crowd.waiting == size.pending
        assert crowd.links == links
        assert len(crowd.forwarder.clients) == size.clients


def test_dns_over_tls_needs_nothing_but_the_standard_library(files: demo.Files) -> None:
    """What has to be imported is in the time to start, and has to be there."""
    code = f"""
import sys
before = set(sys.modules)  # what site-packages brings by itself
import udp2tls
from _udp2tls import cli
options = cli.parser().parse_args(["-l", "127.0.0.1:0", "-u", "tls://127.0.0.1", "--ca-file", {files.ca_file!r}])
forwarder = udp2tls.Forwarder(cli.read(options, {{}}))
forwarder.listen()
forwarder.close()
own = {{"udp2tls", "_udp2tls"}}
roots = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(sorted(roots - own - sys.stdlib_module_names))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
