"""The program with sources, without the file that would name them: ``python with_lists.py JSON``.

The upstreams are the first stamp of each entry of the lists that there are, else those given.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import udp2tls
from _udp2tls import download, log, refresh, sources, workers
from _udp2tls.config import Config, parse_endpoint, parse_upstream


def renewed(config: Config) -> Config:
    listings = [one.listing for one in config.sources if one.listing]
    found = [parse_upstream(entry.stamps[0]) for listing in listings for entry in listing.entries]
    return replace(config, upstreams=tuple(found)) if found else config


def read() -> list[Config]:
    said = json.loads(sys.argv[1])
    one = sources.Source(
        "test", cache_file=said["cache_file"], minisign_key=said["key"], urls=said["urls"]
    )  # fmt: skip
    try:
        one.load()
    except sources.SourceError as error:
        log.warn(str(error))
    config = Config(
        upstreams=tuple(map(parse_upstream, said["upstreams"])), listen=(parse_endpoint(said["listen"], ""),),
        ca_file=said["ca_file"], workers=said["workers"], sources=(one,), renewed=renewed,
    )  # fmt: skip
    return [renewed(config)]


def main() -> int:
    said = json.loads(sys.argv[1])
    # A test does not wait for minutes.
    refresh.SHORTEST, refresh.SETTLED = 0.2, 0.3
    vars(refresh)["RETRY"] = sources.RETRY = 0.5
    assert download.Downloader.__init__.__kwdefaults__
    download.Downloader.__init__.__kwdefaults__["limit"] = said["limit"]
    log.setup("info")
    return workers.serve(udp2tls.Forwarder, read(), read)


if __name__ == "__main__":
    sys.exit(main())
