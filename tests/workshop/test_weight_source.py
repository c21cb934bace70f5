"""Weights from a file or by name: nothing is run, and what cannot be had is one clear error."""

from __future__ import annotations

import os
import re
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

from tests.workshop.library_networks import (
    SMALL,
    assert_refused,
    legacy,
    of_library,
    plain_network,
    randomise,
    saved,
    tensors,
)
from tnn_edge.errors import RunError
from tnn_edge.nn import build_network
from tnn_edge.nn.registry import network_module
from tnn_edge.nn.weights import load_library_weights

# --- files that cannot be read


@pytest.mark.parametrize(("suffix", "write"), [(".safetensors", save_file), (".pth", torch.save), (".pth", legacy)])
def test_half_a_file_is_refused(suffix: str, write: Callable[[Any, Path], None], tmp_path: Path) -> None:
    path = tmp_path / f"half{suffix}"
    write(tensors(plain_network()), path)
    whole = path.read_bytes()
    for n in (0, 1, 9, 300, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:n])
        assert_refused(SMALL, path, rf"{re.escape(str(path))}: cannot be read as weights \((?!Weights only).+\)$")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_file_of_something_else_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"letter{suffix}"
    path.write_bytes(b"Dear customer, " * 40)
    assert_refused(SMALL, path, rf"letter{suffix}: cannot be read as weights \(.+\)$")


class Runs:
    """An object that, unpickled, would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


def test_pickled_objects_are_refused_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = saved({"state_dict": tensors(plain_network()), "best": Runs(trace)}, tmp_path / "plain.pth")
    assert_refused(SMALL, path, r"plain.pth: holds posix.mkdir beside tensors, which is not loaded; save .* alone$")
    assert not trace.exists()


def test_pickled_network_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = saved(plain_network(), tmp_path / "plain.pth")
    assert_refused(
        SMALL, path, r"holds torchvision\.models\.densenet\.DenseNet beside tensors, .*state_dict\(\) alone$"
    )


@pytest.mark.filterwarnings("ignore:Validating sparse tensor invariants")
@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([torch.zeros(2)], r"holds no state dict; save the model's state_dict\(\)$"),
        ({1: torch.zeros(2)}, "holds no state dict"),
        ({"epoch": 3}, r"epoch is no plain tensor; save the model's state_dict\(\) alone$"),
        ({"a\x1b[2J": torch.zeros(2, 2).to_sparse()}, r"a\\x1b\[2J is no plain tensor"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "a is no plain tensor"),
        ({"a": torch.zeros(2, device="meta")}, "a is no plain tensor"),
    ],
)
def test_file_without_a_state_dict_is_refused(found: Any, message: str, tmp_path: Path) -> None:
    assert_refused(SMALL, saved(found, tmp_path / "plain.pth"), message)


def test_safetensors_hold_plain_tensors_too(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, dtype=torch.complex64)}, tmp_path / "plain.safetensors")
    assert_refused(SMALL, tmp_path / "plain.safetensors", "a is no plain tensor")


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert_refused(
        SMALL, tmp_path / "none.pth", rf"there is no file {re.escape(str(tmp_path))}/none.pth to read weights"
    )
    assert_refused(SMALL, tmp_path / "run.pt", r"there is no file .*run.pt to read weights from$")


# --- weights by name


def test_unknown_name_is_refused_with_those_there_are() -> None:
    resnet50 = of_library("resnet_d", "resnet50")
    for name in ("IMAGENET1K_V9", "imagenet1k_v1", "weights/resnet50.bin"):
        message = (
            f"resnet50 has no weights named '{name}'; it has IMAGENET1K_V1, IMAGENET1K_V2; "
            "a file of weights ends in .safetensors, .pth, .pt"
        )
        with pytest.raises(RunError, match=f"^{re.escape(message)}$"):
            load_library_weights(*resnet50, name)


def test_name_for_a_model_that_torchvision_lacks_is_refused() -> None:
    message = r"^torchvision has no efficientnet_lite0, so no weights named 'IMAGENET1K_V1'; a file of weights ends in"
    with pytest.raises(RunError, match=message):
        load_library_weights(*of_library("efficientnet_lite", "efficientnet_lite0"), "IMAGENET1K_V1")


def test_name_for_sizes_that_are_no_library_model_is_refused_with_the_sizes_that_are() -> None:
    message = (
        "there are no weights named 'IMAGENET1K_V1' for densenet with layers = [2, 3, 2], growth = 4, "
        "stem = \"imagenet\", which is no library model; name a file (.safetensors, .pth, .pt) or 'none', or choose "
        'the sizes of a library model:\n  densenet121: layers = [6, 12, 24, 16], growth = 32, stem = "imagenet"\n'
    )
    assert_refused(SMALL, "IMAGENET1K_V1", f"^{re.escape(message)}")


@pytest.mark.parametrize(
    ("architecture", "model", "other"),
    [
        ("resnet_d", "resnet18", {"order": "independent", "stem_channels": 64}),
        ("resnet_d", "resnet18", {"channels": [64, 128, 256, 512], "n_classes": 3}),
        ("vgg", "vgg11", {"order": "independent", "n_components": 32}),
    ],
)
def test_gates_and_classes_do_not_make_another_model(architecture: str, model: str, other: dict[str, Any]) -> None:
    with pytest.raises(RunError, match=rf"^{model} has no weights named 'X'"):
        load_library_weights(*of_library(architecture, model, **other), "X")


@pytest.mark.parametrize("other", [{"stem": "cifar"}, {"stem_channels": 32}, {"blocks": (3, 4, 6, 4)}])
def test_other_sizes_make_another_model(other: dict[str, Any]) -> None:
    with pytest.raises(
        RunError, match=r"^there are no weights named 'X' for resnet_d with .*, which is no library model"
    ):
        load_library_weights(*of_library("resnet_d", "resnet18", **other), "X")


def test_without_a_network_the_error_says_what_could_not_be_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it would remember the proxies of an earlier test
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    message = (
        rf"^cannot fetch {re.escape(url)} into {re.escape(str(tmp_path))}/hub/checkpoints \(.*refused.*\); "
        r"fetch it elsewhere and name the file$"
    )
    with pytest.raises(RunError, match=message):
        load_library_weights(*of_library("resnet_d", "resnet18"), "IMAGENET1K_V1")
    assert list(tmp_path.rglob("*.pth*")) == []


def test_published_weights_are_read_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    plain = randomise(get_model("resnet18"))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    saved(plain.state_dict(), cache / "resnet18-f37072fd.pth")
    sizes = network_module("resnet_d").LIBRARY_MODELS["resnet18"]
    ours = build_network("resnet_d", {**sizes, "n_classes": 1000})
    load_library_weights(ours, "resnet_d", sizes, "IMAGENET1K_V1")
    assert torch.equal(ours.state_dict()["head.classifier.weight"], plain.state_dict()["fc.weight"])
    (cache / "resnet18-f37072fd.pth").write_bytes(b"half")
    with pytest.raises(RunError, match=r"resnet18-f37072fd.pth: cannot be read as weights .*; delete it, and it is"):
        load_library_weights(ours, "resnet_d", sizes, "IMAGENET1K_V1")
