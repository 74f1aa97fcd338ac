"""`python -m sn37.devnet.hub --root DIR [--port N] [--chain FILE]`: the embedded hub as a process."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sn37.devnet.chain import Chain
from sn37.devnet.hub.server import HubServer, wall_clock
from sn37.errors import Sn37Error


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop; 2 and one sentence where that cannot be."""
    parser = argparse.ArgumentParser("python -m sn37.devnet.hub", description="The embedded hub, on 127.0.0.1.")
    parser.add_argument("--root", type=Path, required=True, help="the hub's folder; made where it is missing")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) for any free one")
    parser.add_argument("--chain", type=Path, help="take the time of commits from this embedded chain")
    options = parser.parse_args(arguments)
    try:
        clock = Chain.open(options.chain).now if options.chain else wall_clock
        server = HubServer(options.root, clock=clock, port=options.port)
    except (Sn37Error, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(server.endpoint, flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
