"""Training recipes are checked strictly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tnn_edge.errors import RunError
from tnn_edge.nn import build_network
from train.draws import DRAWS
from train.recipe import Recipe, read_recipe

RECIPES = sorted((Path(__file__).parents[2] / "train" / "recipes").glob("*.toml"))

GOOD = """
name = "good"
[network]
architecture = "resnet_d"
sizes = { channels = [8], blocks = [1] }
[throttle]
draw = "uniform"
statistics = "shared"
[data]
image_size = 32
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
[optimiser]
epochs = 2
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_there_are_recipes() -> None:
    assert RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_builds_its_network(path: Path) -> None:
    recipe = read_recipe(path)
    network = build_network(recipe.network.architecture, recipe.network.sizes)
    full, nothing = (network.schedule.vector(u) for u in (1.0, 0.0))
    assert network.macs(full, recipe.data.image_size) > network.macs(nothing, recipe.data.image_size)
    assert recipe.throttle.draw in DRAWS
    assert recipe.name == path.stem  # the model card names the file by it


def test_recipe_survives_the_record_of_a_run(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, GOOD))
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_every_draw_can_be_asked_for(tmp_path: Path) -> None:
    for draw in DRAWS:
        recipe = read_recipe(written(tmp_path, GOOD.replace('"uniform"', f'"{draw}"')))
        assert recipe.throttle.draw == draw


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ("epochs = 2", "epochs = 2\nepoch = 3", r"optimiser\.epoch: Extra inputs are not permitted"),
        ('name = "good"', 'name = "good"\nsede = 1', r"sede: Extra inputs are not permitted"),
        ("epochs = 2", "epochs = 0", r"optimiser\.epochs: Input should be greater than 0"),
        ("epochs = 2", 'epochs = "two"', r"optimiser\.epochs: Input should be a valid integer"),
        ("epochs = 2", "", r"optimiser\.epochs: Field required"),
        ("epochs = 2", 'epochs = 2\nprecision = "fp16"', r"optimiser\.precision: Input should be 'auto', 'fp32' or"),
        ('draw = "uniform"', 'draw = "normal"', r"throttle\.draw: Input should be 'none', 'uniform' or 'sandwich'"),
        (
            'draw = "uniform"',
            'draw = "uniform"\nsmallest_u = 1.0',
            r"throttle\.smallest_u: Input should be less than 1",
        ),
        ("std = [0.25, 0.25, 0.25]", "std = [0.25]", r"data\.std\.1: Field required"),
    ],
)
def test_fault_names_file_and_key(tmp_path: Path, good: str, bad: str, message: str) -> None:
    assert good in GOOD
    with pytest.raises(RunError, match=r"recipe\.toml: " + message):
        read_recipe(written(tmp_path, GOOD.replace(good, bad)))


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("epochs = 2", "epoch = 2")
    with pytest.raises(RunError, match=r"optimiser\.epochs: Field required; optimiser\.epoch: Extra inputs"):
        read_recipe(written(tmp_path, text))


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe binary"], ids=["syntax", "binary"])
def test_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"recipe\.toml: not valid TOML: "):
        read_recipe(path)


def test_missing_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"cannot read the recipe .*nothing\.toml: No such file or directory"):
        read_recipe(tmp_path / "nothing.toml")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("std", "[0.2, 0.0, 0.2]", r"data\.std\.1: Input should be greater than 0"),
        ("crop_padding", "99", r"data: .*crop_padding 99 must be below image_size"),
    ],
)
def test_data_settings_that_cannot_work_are_refused(tmp_path: Path, key: str, value: str, message: str) -> None:
    kept = [line for line in GOOD.splitlines() if not line.startswith(f"{key} =")]
    kept.insert(kept.index("[data]") + 1, f"{key} = {value}")
    with pytest.raises(RunError, match=message):
        read_recipe(written(tmp_path, "\n".join(kept)))
