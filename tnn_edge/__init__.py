"""Throttleable neural networks on small devices: one network, a dial u in [0, 1], only what it leaves on is computed.

import tnn_edge
with tnn_edge.load("examples/demo/bundle") as engine:
    result = engine.run(x, u=0.4)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tnn_edge.errors import TnnEdgeError

if TYPE_CHECKING:
    from tnn_edge.runtime import Engine, Result, SessionSettings, load

__all__ = ["Engine", "Result", "SessionSettings", "TnnEdgeError", "load"]

_FROM_RUNTIME = ("Engine", "Result", "SessionSettings", "load")


def __getattr__(name: str) -> Any:
    """Import the runtime on first use, so that ``tnn-edge --help`` need not wait for it."""
    if name in _FROM_RUNTIME:
        import tnn_edge.runtime

        return getattr(tnn_edge.runtime, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
