"""Weights from a library: u = 1 is its plain network, and what does not fit is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model, list_models
from torchvision.models.densenet import DenseNet

from tests.workshop.conftest import relative_error
from tests.workshop.library_networks import (
    FAMILIES,
    N_CLASSES,
    SMALL,
    assert_refused,
    legacy,
    of_library,
    plain_network,
    randomise,
    same,
    saved,
    tensors,
)
from tnn_edge.errors import RunError
from tnn_edge.nn import ARCHITECTURES, ThrottleableNetwork, build_network
from tnn_edge.nn.checkpoint import write_checkpoint
from tnn_edge.nn.gating import as_masks
from tnn_edge.nn.registry import network_module
from tnn_edge.nn.weights import load_library_weights

EXACT = 1e-5  # float32: the same sums in another order
CLASSIFIER = ("head.classifier.weight", "head.classifier.bias")
MODELS = [(name, model) for name in ARCHITECTURES for model in getattr(network_module(name), "LIBRARY_MODELS", {})]
OF_THE_PAPER = {"resnet18", "resnet50", "resnext50_32x4d", "densenet169", "vgg16", "vgg16_bn"}


@pytest.fixture(autouse=True, scope="module")
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


# --- u = 1 is the plain network


def assert_is_plain(ours: ThrottleableNetwork, plain: nn.Module, image_size: int) -> None:
    x = torch.randn(2, 3, image_size, image_size, generator=torch.Generator().manual_seed(1))
    full = ours.schedule.vector(1.0)
    expected = plain(x)
    assert relative_error(ours(x), expected) <= EXACT
    assert relative_error(ours(x, as_masks(full, len(x))), expected) <= EXACT
    assert relative_error(ours.sliced(x, full), expected) <= EXACT
    assert relative_error(ours.sliced(x, ours.schedule.vector(0.5)), expected) > 100 * EXACT


@pytest.mark.parametrize("name", FAMILIES)
def test_full_throttle_on_library_weights_equals_the_plain_library_network(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    plain = plain_network(family)
    ours = family.build()
    assert family.load(ours, saved(plain.state_dict(), tmp_path / "plain.pth")) == ()
    assert_is_plain(ours, plain, family.image_size)


@pytest.mark.slow
def test_full_throttle_of_a_whole_resnet50_equals_torchvision(tmp_path: Path) -> None:
    torch.manual_seed(5)
    plain = randomise(get_model("resnet50"))
    sizes = {**network_module("resnet_w").LIBRARY_MODELS["resnet50"], "n_classes": 1000}
    ours = build_network("resnet_w", sizes).eval()
    load_library_weights(ours, "resnet_w", sizes, str(saved(plain.state_dict(), tmp_path / "plain.pth")))
    assert_is_plain(ours, plain, 64)


@pytest.mark.parametrize(
    ("architecture", "model"),
    [
        pytest.param(*pair, marks=() if pair[1] in OF_THE_PAPER else pytest.mark.slow)
        for pair in MODELS
        if pair[1] in list_models()
    ],
)
def test_a_library_model_has_the_names_and_shapes_of_the_sizes_listed_for_it(architecture: str, model: str) -> None:
    module = network_module(architecture)
    with torch.device("meta"):
        plain = get_model(model).state_dict()
        ours = build_network(architecture, {**module.LIBRARY_MODELS[model], "n_classes": 1000})
    place = module.library_names(ours)
    assert {place[name]: tensor.shape for name, tensor in plain.items()} == {
        name: tensor.shape for name, tensor in ours.state_dict().items()
    }
    assert len(plain) == len(ours.state_dict())


# --- forms of one and the same weights


def of_old_torch(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if "num_batches_tracked" not in name}


FORMS: Mapping[str, tuple[str, Callable[[dict[str, Tensor], Path], None]]] = {
    "safetensors": (".safetensors", save_file),
    "torch": (".pt", torch.save),
    "torch before 1.6": (".pth", legacy),
    "checkpoint": (".pth", lambda state, path: torch.save({"state_dict": state, "epoch": 9}, path)),
    "checkpoint of torchvision's programs": (".pth", lambda state, path: torch.save({"model": state}, path)),
    "trained in parallel": (".pth", lambda state, path: torch.save({f"module.{k}": v for k, v in state.items()}, path)),
    "double precision": (".PTH", lambda state, path: torch.save({k: v.double() for k, v in state.items()}, path)),
    "no count of batches": (".pth", lambda state, path: torch.save(of_old_torch(state), path)),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_the_same_in_whatever_form_they_come(form: str, tmp_path: Path) -> None:
    plain = plain_network()
    suffix, write = FORMS[form]
    path = tmp_path / f"plain{suffix}"
    write(tensors(plain), path)
    ours, expected = SMALL.build(), SMALL.build()
    SMALL.load(expected, saved(plain.state_dict(), tmp_path / "expected.pth"))
    SMALL.load(ours, path)
    assert same(of_old_torch(tensors(ours)), of_old_torch(tensors(expected)))


def test_densenet_takes_the_names_of_the_files_that_torchvision_publishes(tmp_path: Path) -> None:
    plain = plain_network()
    dotted = re.compile(r"(denselayer\d+\.(?:norm|conv))([12])")
    old = {dotted.sub(r"\1.\2", name): tensor for name, tensor in plain.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    ours = SMALL.build()
    SMALL.load(ours, saved(old, tmp_path / "old.pth"))
    assert_is_plain(ours, plain, SMALL.image_size)


@pytest.mark.parametrize("name", ["resnet_d basic", "densenet", "vgg batch norm"])
def test_the_checkpoint_of_a_run_is_a_source_of_weights(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    trained, ours = family.build(), family.build()
    write_checkpoint(tmp_path, trained, extra={"generator": torch.Generator().get_state()}, progress={"epochs": 1})
    assert not same(tensors(ours), tensors(trained))
    assert family.load(ours, tmp_path / "checkpoint.safetensors") == ()
    assert same(tensors(ours), tensors(trained))


def test_no_weights_leave_the_network_as_it_is() -> None:
    ours = SMALL.build()
    before = tensors(ours)
    assert SMALL.load(ours, "none") == ()
    assert same(tensors(ours), before)


def test_another_number_of_classes_keeps_the_classifier_and_says_so(tmp_path: Path) -> None:
    plain = plain_network()
    path = saved(plain.state_dict(), tmp_path / "plain.pth")
    whole, ours = SMALL.build(), SMALL.build(n_classes=3)
    SMALL.load(whole, path)
    before = tensors(ours)
    assert SMALL.load(ours, path) == CLASSIFIER
    after, expected = tensors(ours), tensors(whole)
    for name in after:
        assert torch.equal(after[name], before[name] if name in CLASSIFIER else expected[name]), name


# --- what does not fit


def test_weights_of_another_architecture_are_refused_with_the_tensors_that_tell(tmp_path: Path) -> None:
    path = saved(plain_network(FAMILIES["vgg"]).state_dict(), tmp_path / "vgg.pth")
    assert_refused(
        SMALL,
        path,
        r"vgg.pth does not hold the weights of densenet with layers = \[2, 3, 2\], growth = 4, stem = \"imagenet\": "
        r"\d+ missing \(features.conv0.weight, features.norm0.weight, features.norm0.bias, ...\); "
        r"12 left over \(features.0.weight, features.0.bias, features.3.weight, ...\)$",
    )


def test_weights_of_another_depth_are_refused_by_the_name_of_the_model(tmp_path: Path) -> None:
    path = saved(get_model("resnet18").state_dict(), tmp_path / "resnet18.pth")
    blocks = (3 - 2) + (4 - 2) + (6 - 2) + (3 - 2)
    n = blocks * 2 * (1 + 4)  # convolutions with a normalisation each
    message = rf"the weights of resnet34: {n} missing \(layer1.2.conv1.weight, layer1.2.bn1.weight, .*, \.\.\.\)$"
    with pytest.raises(RunError, match=message):
        load_library_weights(*of_library("resnet_d", "resnet34"), str(path))


def test_weights_of_another_width_are_refused_with_both_shapes(tmp_path: Path) -> None:
    wider = DenseNet(growth_rate=6, block_config=(2, 3, 2), num_init_features=8, num_classes=N_CLASSES)
    path = saved(wider.state_dict(), tmp_path / "wider.pth")
    message = r": \d+ of another shape \(.*denselayer1.conv1.weight \[24, 8, 1, 1\], not \[16, 8, 1, 1\], .*, \.\.\.\)$"
    assert_refused(SMALL, path, message)


def test_classifier_of_other_inputs_is_no_other_number_of_classes(tmp_path: Path) -> None:
    state = tensors(plain_network())
    state["classifier.weight"] = state["classifier.weight"][:, 1:].clone()
    path = saved(state, tmp_path / "plain.pth")
    assert_refused(SMALL, path, r": 1 of another shape \(classifier.weight \[7, \d+\], not \[7, \d+\]\)$")
    assert_refused(SMALL, path, r": 2 of another shape \(classifier.weight .*, classifier.bias", n_classes=3)


def test_classifier_whose_halves_disagree_is_refused(tmp_path: Path) -> None:
    state = tensors(plain_network())
    state["classifier.bias"] = state["classifier.bias"][:2].clone()
    message = r": 1 of another shape \(classifier.bias \[2\], not \[7\]\)$"
    assert_refused(SMALL, saved(state, tmp_path / "plain.pth"), message)


def test_our_own_names_are_reported_when_the_weights_use_them(tmp_path: Path) -> None:
    state = tensors(SMALL.build())
    del state["blocks.dense2.layers.1.conv2.weight"]
    message = r": 1 missing \(blocks.dense2.layers.1.conv2.weight\)$"
    assert_refused(SMALL, saved(state, tmp_path / "ours.pth"), message)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    state = tensors(plain_network())
    state["features.norm5.running_var"][3] = float("nan")
    message = "holds weights that are no finite numbers: head.norm1.running_var"
    assert_refused(SMALL, saved(state, tmp_path / "plain.pth"), message)
