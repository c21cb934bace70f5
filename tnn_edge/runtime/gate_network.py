"""The small network by which a contextual bundle chooses an operating point for each image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tnn_edge.bundle import Bundle, GateNetworkSpec
from tnn_edge.errors import BundleError, PlanError
from tnn_edge.runtime.providers import SessionSettings, open_session, session_options

__all__ = ["GateNetwork", "check_cost"]

FloatArray = npt.NDArray[np.float32]


def check_cost(bundle: Bundle) -> None:
    """Make sure that the gate network of a bundle, if it has one, costs what its manifest says.

    Raises:
        BundleError: it costs something else, or its values take too much memory.
        PlanError: an operator whose cost is not known.
    """
    import onnx

    from tnn_edge.runtime.linking.macs import graph_macs

    spec = bundle.manifest.gate_network
    if spec is None:
        return
    path = bundle.path / spec.file
    try:
        macs = graph_macs(onnx.load_model(str(path), load_external_data=False))  # its weights have no part in it
    except (BundleError, onnx.shape_inference.InferenceError) as err:
        raise BundleError(f"{path}: {str(err).partition(chr(10))[0]}") from err
    if macs != spec.macs:
        raise BundleError(f"{path}: {macs} MACs, the manifest says {spec.macs}")


class GateNetwork:
    """Runs on the CPU whatever the blocks run on: it costs less than a transfer.

    Args:
        bundle: an opened bundle.
        spec: its gate network.
        settings: threads and spinning.
    """

    def __init__(self, bundle: Bundle, spec: GateNetworkSpec, settings: SessionSettings) -> None:
        self._spec = spec
        self._session = open_session(bundle.path / spec.file, session_options(settings, optimise=True), "cpu")

    def scores(self, x: FloatArray, u: float) -> FloatArray:
        """Score of each operating point for one preprocessed image, shape [P]; the largest is to run.

        Raises:
            PlanError: ONNX Runtime fails.
        """
        read = {self._spec.image: x, self._spec.throttle: np.array([u], dtype=np.float32)}
        try:
            (scores,) = self._session.run([self._spec.scores], read)
        except Exception as err:  # ONNX Runtime's errors share no other base
            raise PlanError(f"ONNX Runtime cannot run the gate network: {str(err).partition(chr(10))[0]}") from err
        first: FloatArray = np.asarray(scores)[0]
        return first
