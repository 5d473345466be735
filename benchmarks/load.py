"""Signed events are posted over many connections for a while.

`python -m benchmarks.load PORT CONNECTIONS SECONDS`, with BENCH_BODIES naming a file of lines, each a signature, a tab
and a body; every line is posted once. The answer is JSON: requests answered, seconds, milliseconds, failures, and when
the last answer came (CLOCK_MONOTONIC).
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from benchmarks.report import percentile

BODIES = "BENCH_BODIES"
PATH = "/webhooks/stripe"


def command(port: int, connections: int, seconds: float) -> list[str]:
    """The load generator, for a process of its own."""
    return [sys.executable, "-m", "benchmarks.load", str(port), str(connections), str(seconds)]


@dataclass
class Tally:
    """What became of the requests."""

    milliseconds: list[float] = field(default_factory=list)
    failed: int = 0


async def load(port: int, connections: int, seconds: float, lines: Iterator[bytes]) -> Mapping[str, float]:
    tally = Tally()
    began = time.perf_counter()
    until = began + seconds
    await asyncio.gather(*(post_all(port, until, lines, tally) for _ in range(connections)))
    ended = time.monotonic()
    took = time.perf_counter() - began
    waits = tally.milliseconds
    return {
        "requests": len(waits),
        "seconds": took,
        "p50": percentile(waits, 50),
        "p99": percentile(waits, 99),
        "max": max(waits),
        "failed": tally.failed,
        "ended": ended,
    }


async def post_all(port: int, until: float, lines: Iterator[bytes], tally: Tally) -> None:
    """One connection's requests, one after the other."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for line in lines:
        signature, _, body = line.rstrip(b"\n").partition(b"\t")
        began = time.perf_counter()
        writer.write(
            b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nStripe-Signature: %s\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (PATH.encode(), signature, len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        tally.milliseconds.append((time.perf_counter() - began) * 1000)
        tally.failed += not head.startswith(b"HTTP/1.1 200")
        if time.perf_counter() > until:
            break
    writer.close()


if __name__ == "__main__":
    port, connections, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    with Path(os.environ[BODIES]).open("rb") as file:
        print(json.dumps(uvloop.run(load(port, connections, seconds, iter(file)))))
