"""What ONNX Runtime makes of a graph on this CPU, as a file."""

from __future__ import annotations

from pathlib import Path

import onnx

from tnn_edge.runtime.providers import SessionSettings, open_session, session_options

__all__ = ["save_optimised"]


def save_optimised(model: onnx.ModelProto, path: Path) -> None:
    """Optimise a model for this CPU and save it, weights included.

    Raises:
        PlanError: ONNX Runtime refuses the model, or cannot write the file.
    """
    options = session_options(SessionSettings(), optimise=True)
    options.optimized_model_filepath = str(path)
    open_session(model.SerializeToString(), options, "cpu")
