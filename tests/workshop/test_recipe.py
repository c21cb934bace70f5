"""Training recipes are checked strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tomllib

from tests.workshop.conftest import as_toml, colours
from tnn_edge.errors import RunError
from tnn_edge.nn import build_network
from train.recipe import Recipe, read_recipe
from train.training import train

RECIPES = sorted((Path(__file__).parents[2] / "train" / "recipes").glob("*.toml"))

GOOD = """
name = "good"
[network]
architecture = "resnet_d"
sizes = { channels = [8], blocks = [1] }
[throttle]
draw = { kind = "per_example", u = { kind = "uniform" } }
statistics = "shared"
[data]
image_size = 32
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
[training]
epochs = 2
[optimiser]
kind = "sgd"
[learning_rate]
kind = "warmup_cosine"
highest = 0.1
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_there_are_recipes() -> None:
    assert RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_can_be_written_again(tmp_path: Path, path: Path) -> None:
    recipe = read_recipe(path)
    assert read_recipe(written(tmp_path, as_toml(recipe))) == recipe


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_builds_its_network(path: Path) -> None:
    recipe = read_recipe(path)
    network = build_network(recipe.network.architecture, recipe.network.sizes)
    full, nothing = (network.schedule.vector(u) for u in (1.0, 0.0))
    assert network.macs(full, recipe.data.image_size) > network.macs(nothing, recipe.data.image_size)
    assert recipe.name == path.stem  # the model card names the file by it


def test_recipe_survives_the_record_of_a_run(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, GOOD))
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


U, DRAW = '{ kind = "uniform" }', '{ kind = "per_example", u = { kind = "uniform" } }'
MIXTURE = '{ kind = "mixture", share_at_one = 0.5, rest = { kind = "uniform" } }'
SGD, RATE = 'kind = "sgd"', 'kind = "warmup_cosine"\nhighest = 0.1'
RESTARTS = 'kind = "warm_restarts"\nhighest = 0.1'
SHARED = 'statistics = "shared"'
SANDWICH = 'draw = { kind = "sandwich", smallest_u = 0.25, student_weight = 0.5, u = { kind = "beta", a = 2, b = 1 } }'


@pytest.mark.parametrize(
    ("default", "asked"),
    [
        (DRAW, '{ kind = "none" }'),
        (DRAW, '{ kind = "per_example" }'),
        (f"draw = {DRAW}\n{SHARED}", f"{SANDWICH}\nstatistics = 'per_point'"),
        (U, '{ kind = "uniform", low = 0.25, high = 0.75 }'),
        (U, '{ kind = "annealed", fall_per_epoch = 0.05 }'),
        (U, '{ kind = "beta", a = 0.5, b = 2.0 }'),
        (U, '{ kind = "mixture", share_at_one = 0.2, rest = { kind = "annealed", fall_per_epoch = 0.1 } }'),
        (SGD, SGD + "\nmomentum = 0.5\nnesterov = false\nweight_decay = 0.0"),
        (SGD, 'kind = "adam"\nbetas = [0.8, 0.99]\nweight_decay = 1e-4'),
        (RATE, 'kind = "constant"\nrate = 1e-5'),
        (RATE, 'kind = "warm_restarts"\nhighest = 0.05\nlowest = 0.01\nfirst_period_epochs = 5\nperiod_factor = 3'),
        (SHARED, SHARED + "\npoints = 17"),
        ('architecture = "resnet_d"', 'architecture = "resnet_d"\nweights = "IMAGENET1K_V1"'),
        ("image_size = 32", 'image_size = 224\nshort_side = 256\nformat = "folder"\ncrop_padding = 0'),
        ("epochs = 2", "epochs = 2\nclip_norm = 1.0\nlabel_smoothing = 0.1"),
    ],
)
def test_what_a_recipe_asks_for_is_in_its_record(tmp_path: Path, default: str, asked: str) -> None:
    assert default in GOOD
    text = GOOD.replace(default, asked)
    recipe = read_recipe(written(tmp_path, text))
    record = recipe.model_dump(mode="json")
    assert Recipe.model_validate(record) == recipe
    assert_holds(record, tomllib.loads(text))


def assert_holds(record: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    for key, value in asked.items():
        if isinstance(value, Mapping):
            assert_holds(record[key], value)
        else:
            assert record[key] == value


def test_command_line_may_name_other_weights(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, GOOD))
    assert recipe.with_weights("IMAGENET1K_V1").network.weights == "IMAGENET1K_V1"
    assert recipe.with_weights("IMAGENET1K_V1").with_weights("none") == recipe.with_weights(None) == recipe


KINDS = r"does not match any of the expected tags: "
TABLE = r"must be a table that names its kind, such as \{ kind = \"...\" \}, got "


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ("epochs = 2", "epochs = 2\nepoch = 3", r"training\.epoch: Extra inputs are not permitted"),
        ('name = "good"', 'name = "good"\nsede = 1', r"sede: Extra inputs are not permitted"),
        ("epochs = 2", "epochs = 0", r"training\.epochs: Input should be greater than 0"),
        ("epochs = 2", 'epochs = "two"', r"training\.epochs: Input should be a valid integer"),
        ("epochs = 2", "", r"training\.epochs: Field required"),
        ("epochs = 2", 'epochs = 2\nprecision = "fp16"', r"training\.precision: Input should be 'auto', 'fp32' or"),
        ("epochs = 2", "epochs = 2\nclip_norm = 0.0", r"training\.clip_norm: Input should be greater than 0"),
        ("std = [0.25, 0.25, 0.25]", "std = [0.25]", r"data\.std\.1: Field required"),
        (SHARED, SHARED + '\npoints = 1', "throttle.points: .* greater than or equal to 2"),
        ("epochs = 2", "epochs = true", r"training\.epochs: Input should be a valid integer"),
        ("epochs = 2", 'epochs = "2"', r"training\.epochs: Input should be a valid integer"),
        ("image_size = 32", "image_size = 32\nflip = 1", r"data\.flip: Input should be a valid boolean"),
        ("image_size = 32", "image_size = 100000", r"data\.image_size: Input should be less than or equal to 4096"),
        ('name = "good"', f'name = "good"\nseed = {2**63}', "seed: Input should be less than"),
        ('name = "good"', 'name = ""', "name: String should have at least 1 character"),
        ('name = "good"', 'name = "a\\nb"', r"name: 'a\\nb' must hold no control character"),
        ('name = "good"', "name = " + "[" * 5000, "not valid TOML: "),
        (SHARED, SHARED + '\npoints = 100000', "throttle.points: .* less than or equal to 1025"),
        # draws
        (DRAW, '"uniform"', r"throttle\.draw: " + TABLE + "'uniform'"),
        (DRAW, "{ u = 1 }", r"throttle\.draw: " + TABLE + r"\{'u': 1\}"),
        (DRAW, '{ kind = "random" }', "throttle.draw: .*'random'.*" + KINDS + "'none', 'per_example', 'sandwich'"),
        (DRAW, '{ kind = "none", u = 1 }', r"throttle\.draw\.none\.u: Extra inputs are not permitted"),
        (DRAW, '{ kind = "sandwich", smallest_u = 1.0 }', r"throttle\.draw\.sandwich\.smallest_u: .* less than 1"),
        (DRAW, '{ kind = "sandwich", student_weight = 0 }', "draw.sandwich.student_weight: .* greater than 0"),
        (DRAW, '{ kind = "sandwich", student_weight = inf }', r"sandwich\.student_weight: .* a finite number"),
        (f"draw = {DRAW}", SANDWICH, r"throttle: .*at u = 1 alone, .* below; set statistics = 'per_point'"),
        # distributions
        (U, '{ kind = "normal" }', r"u: .*" + KINDS + "'uniform', 'annealed', 'beta', 'mixture'"),
        (U, "0.5", r"throttle\.draw\.per_example\.u: " + TABLE + "0.5"),
        (U, '{ kind = "uniform", low = 0.6, high = 0.6 }', "u.uniform: .*low must be below high, got low 0.6 and"),
        (U, '{ kind = "uniform", low = -0.1 }', "u.uniform.low: Input should be greater than or equal to 0"),
        (U, '{ kind = "uniform", high = 1.1 }', "u.uniform.high: Input should be less than or equal to 1"),
        (U, '{ kind = "uniform", high = nan }', "u.uniform.high: Input should be a finite number"),
        (U, '{ kind = "annealed" }', "u.annealed.fall_per_epoch: Field required"),
        (U, '{ kind = "annealed", fall_per_epoch = 0.0 }', "u.annealed.fall_per_epoch: .* greater than 0"),
        (U, '{ kind = "annealed", fall_per_epoch = 1.5 }', "u.annealed.fall_per_epoch: .* less than or equal to 1"),
        (U, '{ kind = "beta", a = 0.0, b = 1.0 }', "u.beta.a: Input should be greater than 0"),
        (U, '{ kind = "beta", a = 1.0, b = inf }', "u.beta.b: Input should be a finite number"),
        (U, MIXTURE.replace("0.5", "1.0"), "u.mixture.share_at_one: Input should be less than 1"),
        (U, MIXTURE.replace("0.5", "0.0"), "u.mixture.share_at_one: Input should be greater than 0"),
        (U, '{ kind = "mixture", share_at_one = 0.5 }', "u.mixture.rest: Field required"),
        (U, MIXTURE.replace("uniform", "mixture"), "u.mixture.rest: .*'uniform', 'annealed', 'beta'$"),
        # optimisers and schedules
        (SGD, 'kind = "lion"', r"optimiser: .*" + KINDS + "'sgd', 'adam'"),
        (SGD, "momentum = 0.5", "optimiser: " + TABLE + r"\{'momentum': 0.5\}"),
        (SGD, SGD + '\nmomentum = 0.0', "nesterov needs a momentum above 0; set nesterov = false"),
        (SGD, SGD + '\nmomentum = 1.0', "optimiser.sgd.momentum: Input should be less than 1"),
        (SGD, SGD + '\nweight_decay = -1', "optimiser.sgd.weight_decay: .* greater than or equal to 0"),
        (SGD, 'kind = "adam"\nmomentum = 0.9', "optimiser.adam.momentum: Extra inputs are not permitted"),
        (SGD, 'kind = "adam"\nbetas = [0.9, 1.0]', r"optimiser.adam.betas\.1: Input should be less than 1"),
        (RATE, 'kind = "step"', r"learning_rate: .*" + KINDS + "'constant', 'warmup_cosine', 'warm_restarts'"),
        (RATE, 'kind = "constant"', "learning_rate.constant.rate: Field required"),
        (RATE, 'kind = "constant"\nrate = 1e39', "learning_rate.constant.rate: Input should be less than or equal"),
        (RATE, 'kind = "constant"\nrate = inf', "learning_rate.constant.rate: Input should be a finite number"),
        (RATE, 'kind = "warmup_cosine"\nhighest = 0', "learning_rate.warmup_cosine.highest: .* greater than 0"),
        (RATE, RATE + "\nwarmup_epochs = -1", "warmup_cosine.warmup_epochs: .* greater than or equal to 0"),
        (RATE, RESTARTS + '\nlowest = 0.2', "lowest must not lie above highest, got 0.2 and 0.1"),
        (RATE, RESTARTS + '\nperiod_factor = 0', "warm_restarts.period_factor: .* greater than 0"),
        (RATE, RESTARTS + '\nfirst_period_epochs = 0', "first_period_epochs: .* greater than 0"),
    ],
)  # fmt: skip
def test_fault_names_file_and_key(tmp_path: Path, good: str, bad: str, message: str) -> None:
    assert good in GOOD
    with pytest.raises(RunError, match=r"recipe\.toml: .*" + message):
        read_recipe(written(tmp_path, GOOD.replace(good, bad)))


def test_warm_up_that_lasts_as_long_as_the_training_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD + "warmup_epochs = 2.0")
    message = r"toml: learning_rate\.warmup_epochs 2 must be below training\.epochs 2: the rate is to fall again$"
    with pytest.raises(RunError, match=message):
        read_recipe(path)
    assert read_recipe(written(tmp_path, GOOD + "warmup_epochs = 1.9")).training.epochs == 2


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ('architecture = "lenet"\nsizes = {}', "unknown architecture 'lenet'; known: .*resnet_d"),
        ('architecture = "resnet_d"\nsizes = { channels = [8], blocks = [1], width = 2 }', "resnet_d: .*'width'"),
        ('architecture = "resnet_d"\nsizes = { channels = [8], blocks = [1, 1] }', "resnet_d: 1 stages have ch.*, 2"),
        ('architecture = "vgg"\nsizes = { channels = [16], convolutions = [1], order = "paper_dn" }',
         "vgg: .*got 'paper_dn'; only a network that can leave out whole blocks has a depthwise order"),
        ('architecture = "vgg"\nsizes = { channels = [16], convolutions = [1], image_size = 64 }',
         r"vgg with these sizes cannot read images of 32 x 32 pixels \(.*\); choose another image_size, or sizes that"),
    ],
)  # fmt: skip
def test_network_that_cannot_be_is_refused_before_any_training(tmp_path: Path, network: str, message: str) -> None:
    good = 'architecture = "resnet_d"\nsizes = { channels = [8], blocks = [1] }'
    assert good in GOOD
    recipe = read_recipe(written(tmp_path, GOOD.replace(good, network)))
    with pytest.raises(RunError, match=message):
        train(recipe, colours(8), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("epochs = 2", "epoch = 2")
    with pytest.raises(RunError, match=r"training\.epochs: Field required; training\.epoch: Extra inputs"):
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
        ("short_side", "64", r"data: .*short_side belongs to format 'folder'; images in memory"),
        ("format", '"folder"', r"data: .*format 'folder' needs short_side of at least image_size 32, got None"),
        ("format", '"folder"\nshort_side = 31', r"data: .*format 'folder' needs short_side of at least .*, got 31"),
        ("format", '"folder"\nshort_side = 36', r"data: .*crops what it resized; set crop_padding = 0, got 4"),
        ("format", '"zip"', r"data\.format: Input should be 'memory' or 'folder'"),
    ],
)  # fmt: skip
def test_data_settings_that_cannot_work_are_refused(tmp_path: Path, key: str, value: str, message: str) -> None:
    kept = [line for line in GOOD.splitlines() if not line.startswith(f"{key} =")]
    kept.insert(kept.index("[data]") + 1, f"{key} = {value}")
    with pytest.raises(RunError, match=message):
        read_recipe(written(tmp_path, "\n".join(kept)))
