"""What ONNX Runtime makes of a graph on this machine, as a file."""

from __future__ import annotations

from pathlib import Path

import onnx

from tnn_edge.runtime.providers import Device, SessionSettings, open_session, session_options

__all__ = ["save_optimised"]


def save_optimised(model: onnx.ModelProto, path: Path, device: Device = "cpu") -> None:
    """Optimise a model for a device and save it, weights included.

    Raises:
        PlanError: ONNX Runtime refuses the model, or cannot write the file.
        ProviderError: it does not run on the device.
    """
    options = session_options(SessionSettings(), optimise=True)
    options.optimized_model_filepath = str(path)
    open_session(model.SerializeToString(), options, device)
