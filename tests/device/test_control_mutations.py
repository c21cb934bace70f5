"""Example policies with one thing made wrong: each is refused with file, line and key, and nothing crashes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.device.toml_mutations import MUTATIONS, is_refused_rightly
from tnn_edge.control import read_policy

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples" / "policies").glob("*.toml"))


@pytest.mark.parametrize("seed", range(20 * len(MUTATIONS)))
def test_a_mutated_example_is_refused_with_file_line_and_key(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    mutation = MUTATIONS[seed % len(MUTATIONS)](rng.choice(EXAMPLES).read_text(), rng)
    is_refused_rightly(read_policy, tmp_path / "policy.toml", mutation)
