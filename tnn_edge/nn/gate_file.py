"""``gate.safetensors``: the controller of a run whose gates are learned, readable without unpickling anything.

A run that holds it is a run like any other, whose network is gated by the controller instead of a fixed schedule.
Metadata ``gate`` is JSON: format, kind of controller and its hidden units, the components it decides on, how it was
trained. Tensors: ``controller.*``; ``codebook.*`` once the training of a contextual one is over; ``training.*``, which
resuming needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from tnn_edge.errors import RunError
from tnn_edge.nn.codebook import Codebook
from tnn_edge.nn.components import Components
from tnn_edge.nn.controller import CONTROLLERS, Controller
from tnn_edge.nn.learned_gates import LearnedGates
from tnn_edge.whole_file import make_folder, write_whole

__all__ = ["GATE_FILE", "GateFile", "load_gates", "read_gate", "write_gate"]

FORMAT = 1
GATE_FILE = "gate.safetensors"
_CONTROLLER, _CODEBOOK, _TRAINING = "controller.", "codebook.", "training."


@dataclass(frozen=True, kw_only=True, eq=False)
class GateFile:
    """What the file holds.

    Attributes:
        components: what the controller decides on.
        controller: the controller.
        codebook: of a contextual one whose training is over.
        settings: how it is trained, JSON-able.
        progress: how far, JSON-able.
        training: tensors that resuming needs.
    """

    components: Components
    controller: Controller
    codebook: Codebook | None
    settings: Mapping[str, Any]
    progress: Mapping[str, Any]
    training: Mapping[str, Tensor]

    @property
    def kind(self) -> str:
        """``blind`` or ``contextual``."""
        return next(kind for kind, cls in CONTROLLERS.items() if type(self.controller) is cls)


def write_gate(run: Path, gate: GateFile) -> None:
    """Store the gate of a run; the file is replaced in one step."""
    tensors = {_CONTROLLER + name: tensor for name, tensor in gate.controller.state_dict().items()}
    if gate.codebook is not None:
        tensors |= {f"{_CODEBOOK}codes": gate.codebook.codes, f"{_CODEBOOK}shares": gate.codebook.shares}
    tensors |= {_TRAINING + name: tensor for name, tensor in gate.training.items()}
    record = {
        "format": FORMAT,
        "controller": gate.kind,
        "hidden": gate.controller.hidden,
        "components": [[name, n, gate.components.least[name]] for name, n in gate.components.sizes.items()],
        "settings": dict(gate.settings),
        "progress": dict(gate.progress),
    }
    contiguous = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    make_folder(run)
    write_whole(run / GATE_FILE, save(contiguous, metadata={"gate": json.dumps(record)}), "run folder")


def read_gate(run: Path) -> GateFile | None:
    """Read the gate of a run; None where its gates are not learned.

    Raises:
        RunError: the file is damaged, or was written by another version.
    """
    path = run / GATE_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            record = json.loads(file.metadata()["gate"])
        if record["format"] != FORMAT:
            raise RunError(f"{path}: format {record['format']}, this version reads format {FORMAT}")
        return _parse(record, tensors)
    except RunError:
        raise
    except (SafetensorError, OSError, RuntimeError, LookupError, TypeError, ValueError) as err:
        raise RunError(f"{path}: damaged ({err}); train the gate again with train.gate") from err


def _parse(record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> GateFile:
    sizes = {name: int(n) for name, n, _ in record["components"]}
    components = Components(sizes=sizes, least={name: int(least) for name, _, least in record["components"]})
    controller = CONTROLLERS[record["controller"]](len(components), record["hidden"])
    controller.load_state_dict(_within(tensors, _CONTROLLER))
    found = _within(tensors, _CODEBOOK)
    codebook = Codebook(codes=found["codes"], shares=found["shares"]) if found else None
    if codebook is not None:
        _check_codebook(codebook, len(components))
    return GateFile(
        components=components,
        controller=controller.eval(),
        codebook=codebook,
        settings=dict(record["settings"]),
        progress=dict(record["progress"]),
        training=_within(tensors, _TRAINING),
    )


def _check_codebook(codebook: Codebook, n_components: int) -> None:
    codes, shares = codebook.codes, codebook.shares
    if shares.ndim != 1 or not len(shares) or codes.shape != (len(shares), n_components):
        raise ValueError(f"codes of shape {list(codes.shape)} for {n_components} components")
    if not ((codes == 0) | (codes == 1)).all() or not ((shares > 0) & (shares <= 1)).all():
        raise ValueError("codes are 0 or 1, their shares above 0")


def _within(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def load_gates(run: Path, components: Components) -> LearnedGates | None:
    """The learned gates of a run, ready for its network; None where its gates are not learned.

    Args:
        run: the folder.
        components: of the network that the run describes.

    Raises:
        RunError: the file is damaged, does not fit the network, or the training of a contextual gate is not over.
    """
    gate = read_gate(run)
    if gate is None:
        return None
    if gate.components != components:
        raise RunError(
            f"{run / GATE_FILE} decides on {len(gate.components)} components of {len(gate.components.sizes)} modules, "
            f"the network has {len(components)} of {len(components.sizes)}; train a gate for this network"
        )
    if gate.controller.reads_images and gate.codebook is None:
        raise RunError(f"{run}: the gate has no codebook yet; finish its training (train.gate --resume)")
    return LearnedGates(components=gate.components, controller=gate.controller, codebook=gate.codebook)
