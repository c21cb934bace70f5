"""The process of one way: it answers when it is asked, tells how long that took, and sleeps while others run.

    python -m export.peers.worker WAY FOLDER THREADS

It reads requests from stdin and writes replies to stdout, a JSON document a line. A request asks for an image at u,
after an untimed one at another u: the first answer is the one after a switch, the second the steady one.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from export.peers.ways import Answer, FloatArray, find_way
from export.peers.work import read_work
from tnn_edge.errors import TnnEdgeError

__all__ = ["resident_mb"]


def resident_mb() -> float:
    """Memory of this process that is resident, files that it maps included, in 10^6 bytes."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("the kernel does not tell how much memory is resident")


def _timed(answer: Answer, x: FloatArray, u: float) -> tuple[FloatArray, float]:
    start = time.perf_counter_ns()
    logits = answer(x, u)
    return logits, (time.perf_counter_ns() - start) / 1e6


def _reply(answer: Answer, images: FloatArray, request: dict[str, Any]) -> dict[str, Any]:
    u, index = request["u"], request["image"]
    x = images[index : index + 1]
    if request["after"] is not None:
        answer(x, request["after"])
    _, first_ms = _timed(answer, x, u)
    logits, steady_ms = _timed(answer, x, u)
    reply = {"first_ms": first_ms, "steady_ms": steady_ms, "resident_mb": resident_mb()}
    return reply | ({"logits": logits[0].tolist()} if request["wants_logits"] else {})


def _serve(say: Callable[[dict[str, Any]], None], name: str, folder: Path, threads: int) -> None:
    work = read_work(folder)
    images = np.load(work.images)
    start = time.perf_counter_ns()
    try:
        way = find_way(name)
        for library in way.LIBRARIES:
            import_module(library)
        libraries_mb = resident_mb()
        answer = way.load(work, threads)
    except TnnEdgeError as err:
        say({"unavailable": str(err)})
        return
    gc.collect()
    gc.disable()
    say({"load_ms": (time.perf_counter_ns() - start) / 1e6, "libraries_mb": libraries_mb})
    for line in sys.stdin:
        say(_reply(answer, images, json.loads(line)))


def main() -> None:
    """Serve until stdin ends."""
    name, folder, threads = sys.argv[1:]
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no reply

    def say(reply: dict[str, Any]) -> None:
        replies.write(json.dumps(reply) + "\n")
        replies.flush()

    _serve(say, name, Path(folder), int(threads))


if __name__ == "__main__":
    main()
