"""``make bench-peers``, or ``python -m benchmarks.peers`` to choose tools, sizes and rounds."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time

from benchmarks.measuring import PROJECT
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.environments import ENVIRONMENTS, renew_pins
from benchmarks.peers.measurement import GRAPHS, TINY_GRAPHS, measure
from benchmarks.peers.notes import Notes
from benchmarks.peers.probing import probe
from benchmarks.peers.report import Conditions, report

RESULTS = PROJECT / "benchmarks" / "RESULTS-PEERS.md"


def main(arguments: list[str] | None = None) -> None:
    """Measure and probe; written down only when all tools were measured at full size, else printed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=sorted({peer.name for peer in PEERS}), help="by default all tools")
    parser.add_argument("--tiny", action="store_true", help="tiny graphs: does everything still work?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit-s", type=float, default=180.0, help="for one figure")
    parser.add_argument("--resume", action="store_true", help="go on with a measurement that was cut off")
    parser.add_argument("--renew-pins", action="store_true", help="write the newest versions into NAME.txt, and stop")
    options = parser.parse_args(arguments)
    if options.renew_pins:
        renew_pins()
        return
    peers = [peer for peer in PEERS if not options.only or peer.name in options.only]
    graphs = TINY_GRAPHS if options.tiny else GRAPHS
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside; --resume goes on"))  # leaves no strays
    given = [one for one in (sys.argv[1:] if arguments is None else arguments) if one != "--resume"]
    command = " ".join(["python -m benchmarks.peers", *given])
    beginning = {"date": time.strftime("%Y-%m-%d"), "load": os.getloadavg()[0]}
    notes = Notes(ENVIRONMENTS / "notes.jsonl", {"command": command}, beginning, resume=options.resume)
    probes = probe(peers, notes, limit_s=options.limit_s)
    measured = measure(peers, graphs, notes, rounds=options.rounds, limit_s=options.limit_s)
    conditions = Conditions(**notes.beginning, command=command, rounds=options.rounds, limit_s=options.limit_s)
    text = report(measured, graphs, probes, conditions)
    sys.stdout.write(text)
    if not options.only and not options.tiny:
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
