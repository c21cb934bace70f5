"""The demo's scenarios with one thing made wrong: each is refused with file, line and key, and nothing crashes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.device.toml_mutations import MUTATIONS, is_refused_rightly
from tnn_edge.day import read_scenario

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo"


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """The demo's folder, with copies of what may be changed."""
    for name in ("bundle", "images"):
        (tmp_path / name).symlink_to(DEMO / name)
    for name in ("rules.toml", "pacing.toml"):
        (tmp_path / name).write_bytes((DEMO / name).read_bytes())
    return tmp_path


@pytest.mark.parametrize("seed", range(8 * len(MUTATIONS)))
def test_a_mutated_scenario_is_refused_with_file_line_and_key(demo: Path, seed: int) -> None:
    rng = random.Random(seed)
    name = rng.choice(["day.toml", "cloudy_week.toml"])
    mutation = MUTATIONS[seed % len(MUTATIONS)]((DEMO / name).read_text(), rng)
    is_refused_rightly(read_scenario, demo / name, mutation)
