"""`make bench`: what the operator costs, on a real API server, without a node.

Figures are printed as they come and stored as JSON; nothing here passes or fails on a time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import audit, load, machine, report
from benchmarks.bed import bed
from benchmarks.campaign import Campaign
from testbed.apiserver import http
from testbed.node import progress

FILE = Path(__file__).parent / "last.json"
"""Where the figures are stored unless --file says otherwise."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--full", action="store_true", help="1 000 and 10 000 services, 45 min")
    parser.add_argument("--services", type=int, help="applied at once (150; 1000 with --full)")
    parser.add_argument("--many", type=int, help="the larger number (0; 10000 with --full)")
    parser.add_argument("--trickle", type=int, help="one a second (30; 300 with --full)")
    parser.add_argument(
        "--idle",
        type=float,
        help="seconds (30; 600 with --full); of the larger number half, so that each repository is asked",
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.add_argument("--file", type=Path, default=FILE, help="where the figures are stored")
    given = parser.parse_args()
    # Ended from outside, it still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    full = given.full
    sizes = {
        "services": given.services or (1000 if full else 150),
        "many": given.many if given.many is not None else (10000 if full else 0),
        "trickle": given.trickle or (300 if full else 30),
        "idle": given.idle or (600.0 if full else 30.0),
    }
    figures: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine.facts(),
        "sizes": sizes,
    }
    for line in report.heading(figures):
        progress.say(line)
    asyncio.run(_measure(figures, sizes, given.file))
    if given.output == "json":
        print(json.dumps(figures, indent=2))
    else:
        print("\n".join(report.text(figures)))
    progress.say(f"figures: {given.file}")


async def _measure(figures: dict[str, Any], sizes: dict[str, Any], file: Path) -> None:
    async with _campaign(sizes["services"]) as campaign:
        figures["lifecycle"] = await campaign.lifecycle(5)
        figures["burst"] = await campaign.burst(sizes["services"])
        _store(figures, file)
        figures["trickle"] = await campaign.trickle(sizes["trickle"])
        figures["restart"] = await campaign.restart(10)
        figures["idle"] = await campaign.idle(sizes["idle"])
        figures["limit"] = await campaign.limit(sizes["services"])
        _store(figures, file)
    if not sizes["many"]:
        return
    async with _campaign(sizes["many"]) as campaign:
        many: dict[str, Any] = {"burst": await campaign.burst(sizes["many"])}
        figures["many"] = many
        _store(figures, file)
        many["restart"] = await campaign.restart(30)
        many["idle"] = await campaign.idle(sizes["idle"] / 2)
        _store(figures, file)


@contextlib.asynccontextmanager
async def _campaign(builds: int) -> Any:
    with bed(builds) as made:
        async with http.connected(made.plane.kubeconfig, "bench-load") as client:
            tally = load.Tally()
            watch = asyncio.create_task(tally.follow(client))
            await asyncio.to_thread(made.operator.start, 120)
            yield Campaign(made, client, tally, audit.Log(made.plane.audit_log))
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)


def _store(figures: dict[str, Any], file: Path) -> None:
    file.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
