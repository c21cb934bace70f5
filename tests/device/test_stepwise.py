"""Any gate vector, block by block: the answers of the linked network, from sessions that belong to no vector."""

from __future__ import annotations

import gc
import itertools
import os
import re
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.device.graphs import drawn
from tests.device.graphs import run as run_plain
from tests.device.hostile_graphs import GRAPHS
from tnn_edge.bundle import Bundle, Slice, TensorSpec, open_bundle
from tnn_edge.errors import BundleError, InputError, ProviderError
from tnn_edge.runtime.linking.linker import link
from tnn_edge.runtime.vectors.recent import Recent
from tnn_edge.runtime.vectors.stepwise import Stepwise
from tnn_edge.runtime.vectors.store import VectorStore

Array = npt.NDArray[np.float32]

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo" / "bundle"
EXACT = 1e-5  # of the largest logit: float32, the same sums in another order


@pytest.fixture(scope="module")
def widthwise(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def depthwise() -> Bundle:
    return open_bundle(DEMO)


@pytest.fixture(scope="module")
def stepwise(widthwise: Bundle) -> Stepwise:
    return Stepwise(widthwise)


@pytest.fixture(scope="module")
def by_depth(depthwise: Bundle) -> Stepwise:
    return Stepwise(depthwise)


def gates_of(bundle: Bundle, bits: str) -> dict[str, str]:
    """The bits of all gates in a row, cut up."""
    ends = list(itertools.accumulate(len(gate.weights) for gate in bundle.manifest.gates))
    starts = [0, *ends]
    return {g.name: bits[a:b] for g, a, b in zip(bundle.manifest.gates, starts, ends, strict=False)}


def n_bits(bundle: Bundle) -> int:
    return sum(len(gate.weights) for gate in bundle.manifest.gates)


def image(bundle: Bundle, seed: int = 0) -> Array:
    return drawn(seed, *bundle.manifest.input.shape)


def linked(bundle: Bundle, gates: Mapping[str, str], x: Array) -> Array:
    """What ONNX Runtime makes of the linked network without any optimisation."""
    model = link(bundle, gates)
    model.graph.inputs[0].name = "x"
    return run_plain(model, x)


def error(got: Array, expected: Array) -> float:
    return float(np.abs(got - expected).max() / np.abs(expected).max())


# --- the answers


@settings(max_examples=15)
@given(bits=st.text("01", min_size=16, max_size=16))
def test_any_vector_gives_what_the_linked_network_gives(widthwise: Bundle, stepwise: Stepwise, bits: str) -> None:
    gates, x = gates_of(widthwise, bits), image(widthwise)
    assert error(stepwise.run(x, gates), linked(widthwise, gates, x)) <= EXACT


@settings(max_examples=15)
@given(bits=st.text("01", min_size=10, max_size=10))
def test_any_subset_of_the_blocks_gives_what_the_linked_network_gives(
    depthwise: Bundle, by_depth: Stepwise, bits: str
) -> None:
    gates, x = gates_of(depthwise, bits), image(depthwise)
    assert error(by_depth.run(x, gates), linked(depthwise, gates, x)) <= EXACT


@pytest.mark.parametrize("gate", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_every_vector_of_one_block_gives_what_the_linked_network_gives(
    widthwise: Bundle, stepwise: Stepwise, gate: int
) -> None:
    x = image(widthwise)
    for bits in map("".join, itertools.product("01", repeat=4)):
        gates = gates_of(widthwise, "0110" * gate + bits + "1001" * (3 - gate))
        assert error(stepwise.run(x, gates), linked(widthwise, gates, x)) <= EXACT, gates


@pytest.mark.parametrize("bundle", ["widthwise", "depthwise"])
def test_operating_points_give_the_golden_outputs(bundle: str, request: pytest.FixtureRequest) -> None:
    opened: Bundle = request.getfixturevalue(bundle)
    runs = Stepwise(opened)
    for point, golden in zip(opened.manifest.operating_points, opened.golden[1], strict=True):
        logits = np.concatenate([runs.run(x[None], point.gates) for x in opened.golden[0][:2]])
        assert error(logits, golden[:2]) <= 1e-4


def test_vectors_without_a_point_take_the_statistics_of_the_nearest_below(
    widthwise: Bundle, stepwise: Stepwise
) -> None:
    gates, x = gates_of(widthwise, "0011" * 4), image(widthwise)  # utilisation of the point 1100, and not that point
    row = widthwise.manifest.statistics_for(gates)
    others = {r for r in range(4) if r != row}
    answers = {r: _with_row(widthwise, gates, r, x) for r in (row, *others) if r is not None}
    assert row is not None
    got = stepwise.run(x, gates)
    assert error(got, answers[row]) <= EXACT
    assert all(error(got, answers[r]) > 100 * EXACT for r in others)


def _with_row(bundle: Bundle, gates: Mapping[str, str], row: int, x: Array) -> Array:
    points = tuple(p.model_copy(update={"statistics": row}) for p in bundle.manifest.operating_points)
    manifest = bundle.manifest.model_copy(update={"operating_points": points})
    return linked(Bundle(bundle.path, manifest, bundle.digest), gates, x)


# --- what it costs


def test_a_vector_met_again_gathers_nothing_and_answers_bit_for_bit(widthwise: Bundle) -> None:
    runs, x = Stepwise(widthwise), image(widthwise)
    gates, other = gates_of(widthwise, "0101110100111000"), gates_of(widthwise, "1111000010100101")
    first = runs.run(x, gates)
    runs.run(x, other)
    n_bytes = runs.gathered_bytes
    assert np.array_equal(runs.run(x, gates), first)
    assert runs.gathered_bytes == n_bytes


def test_sessions_belong_to_structures_and_not_to_vectors(widthwise: Bundle) -> None:
    runs, x, rng = Stepwise(widthwise), image(widthwise), np.random.default_rng(0)
    for _ in range(120):
        runs.run(x, gates_of(widthwise, "".join(rng.choice(["0", "1"], 16))))
    # stem and head, and 4 blocks with 0 to 4 components on
    assert runs.n_sessions <= 2 + 4 * (4 + 1)


def test_blocks_of_one_structure_share_a_session(depthwise: Bundle) -> None:
    runs = Stepwise(depthwise)
    runs.run(image(depthwise), {gate.name: "1" for gate in depthwise.manifest.gates})
    # stages 2, 3 and 4: the second and third block are alike
    assert runs.n_sessions == len(depthwise.manifest.blocks) - 3


@pytest.mark.parametrize("memory_mb", [0, 1])
def test_little_memory_changes_no_answer(widthwise: Bundle, stepwise: Stepwise, memory_mb: int) -> None:
    runs, x, rng = Stepwise(widthwise, memory_mb=memory_mb), image(widthwise), np.random.default_rng(1)
    for _ in range(20):
        gates = gates_of(widthwise, "".join(rng.choice(["0", "1"], 16)))
        assert np.array_equal(runs.run(x, gates), stepwise.run(x, gates))
    assert runs.gathered_bytes <= max(memory_mb * 2**20, 2**16)


def test_what_was_not_used_for_the_longest_is_forgotten() -> None:
    kept: Recent[str, int] = Recent(10)
    kept.put("a", 1, 4)
    kept.put("b", 2, 4)
    assert kept.get("a") == 1
    kept.put("c", 3, 4)
    assert (kept.get("a"), kept.get("b"), kept.get("c"), kept.n_bytes) == (1, None, 3, 8)


def test_one_value_is_kept_however_large() -> None:
    kept: Recent[str, int] = Recent(10)
    kept.put("a", 1, 4)
    kept.put("b", 2, 40)
    assert (kept.get("a"), kept.get("b"), len(kept)) == (None, 2, 1)


# --- the trace


def test_a_trace_names_the_blocks_that_ran(depthwise: Bundle, by_depth: Stepwise) -> None:
    gates = gates_of(depthwise, "1010010010")
    trace = by_depth.trace(image(depthwise), gates)
    changes_shape = {"stage2_block1", "stage3_block1", "stage4_block1"}  # their skip is a convolution
    names = [b.name for b in depthwise.manifest.blocks]
    expected = [n for n in names if n not in gates or gates[n] == "1" or n in changes_shape]
    assert [each.block for each in trace.blocks] == expected
    assert all(each.ms > 0 for each in trace.blocks)
    assert trace.gather_ms > 0
    assert np.array_equal(trace.logits, by_depth.run(image(depthwise), gates))


# --- clumsy hands


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stage1_block1": None}, "gates must name every gate of the bundle, missing: stage1_block1"),
        ({"stage9": "1111"}, "gates must name every gate of the bundle, unknown: stage9"),
        ({"stage2_block1": "111"}, "gate stage2_block1 must be 4 characters 0 or 1, one for each component, got '111'"),
        (
            {"stage2_block1": "11x1"},
            "gate stage2_block1 must be 4 characters 0 or 1, one for each component, got '11x1'",
        ),
        (
            {"stage2_block1": "१111"},
            "gate stage2_block1 must be 4 characters 0 or 1, one for each component, got '१111'",
        ),
        ({"stage2_block1": 15}, "gate stage2_block1 must be 4 characters 0 or 1, one for each component, got 15"),
    ],
)
def test_a_vector_that_is_not_the_bundles_is_refused(
    widthwise: Bundle, stepwise: Stepwise, change: Mapping[str, str | None], message: str
) -> None:
    merged = {**gates_of(widthwise, "1" * 16), **change}
    gates = {name: bits for name, bits in merged.items() if bits is not None}
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        stepwise.run(image(widthwise), gates)


@pytest.mark.parametrize(
    ("x", "got"),
    [
        (np.zeros((1, 3, 32, 32)), "float64 [1, 3, 32, 32]"),
        (np.zeros((3, 32, 32), np.float32), "float32 [3, 32, 32]"),
        (None, "NoneType"),
    ],
)
def test_an_image_that_does_not_fit_is_refused(widthwise: Bundle, stepwise: Stepwise, x: Array, got: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"x must be float32 [1, 3, 32, 32], got {got};")):
        stepwise.run(x, gates_of(widthwise, "1" * 16))


def test_an_image_may_be_a_view(widthwise: Bundle, stepwise: Stepwise) -> None:
    x, gates = image(widthwise), gates_of(widthwise, "0110" * 4)
    assert np.array_equal(stepwise.run(np.asfortranarray(x), gates), stepwise.run(x, gates))


def test_another_device_is_refused(widthwise: Bundle) -> None:
    message = "gate vectors without a plan run on the CPU, got device cuda; load the bundle with device='cpu'"
    with pytest.raises(ProviderError, match=re.escape(message)):
        Stepwise(widthwise, "cuda")


def test_a_network_that_needs_a_component_says_which(widthwise: Bundle) -> None:
    blocks = tuple(b.model_copy(update={"branches": {}}) for b in widthwise.manifest.blocks)
    manifest = widthwise.manifest.model_copy(update={"blocks": blocks})
    runs = Stepwise(Bundle(widthwise.path, manifest, widthwise.digest))
    message = "the network cannot run these gates: conv1.weight of stage2_block1 needs a component of stage2_block1"
    with pytest.raises(InputError, match=re.escape(message)):
        runs.run(image(widthwise), gates_of(widthwise, "1111" + "0000" + "1111" * 2))
    assert runs.run(image(widthwise), gates_of(widthwise, "1111" + "0010" + "1111" * 2)).shape == (1, 10)


def test_gates_that_leave_shapes_which_do_not_fit_are_refused(widthwise: Bundle) -> None:
    """No operating point need show it: the slice map may fit where all components are on, and there alone."""
    first = widthwise.manifest.blocks[1]
    outputs = Slice(axis=0, gate=str(first.gate), channels=2)
    narrowed = {
        name: TensorSpec(slices=(*(first.tensors[name].slices if name in first.tensors else ()), outputs))
        for name in ("conv3.weight", *(f"norm3.{each}" for each in ("weight", "bias", "running_mean", "running_var")))
    }
    blocks = list(widthwise.manifest.blocks)
    blocks[1] = first.model_copy(update={"tensors": {**first.tensors, **narrowed}})
    manifest = widthwise.manifest.model_copy(update={"blocks": tuple(blocks)})
    runs = Stepwise(Bundle(widthwise.path, manifest, widthwise.digest))
    message = (
        r"^the network cannot run these gates: stage1_block1: \[ShapeInferenceError\] [^\n]*Incompatible dimensions"
    )
    with pytest.raises(InputError, match=message):
        runs.run(image(widthwise), gates_of(widthwise, "1100" + "1111" * 3))
    assert runs.run(image(widthwise), gates_of(widthwise, "1111" * 4)).shape == (1, 10)


def test_a_block_of_more_work_than_a_run_may_take_is_refused(bundle_copy: Path) -> None:
    """That no operating point runs it is no reason to: nobody has probed it either."""
    GRAPHS["convolutions of large kernels"][0](bundle_copy)
    bundle = open_bundle(bundle_copy)
    with pytest.raises(BundleError, match=r"one run takes 25\d{10} MACs .* at most 200000000000"):
        Stepwise(bundle).run(image(bundle), gates_of(bundle, "1111" * 4))
    with pytest.raises(BundleError, match=r"one run takes 25\d{10} MACs .* at most 200000000000"):
        VectorStore(bundle_copy / "store", 2**30).add(bundle, gates_of(bundle, "1111" * 4))


def test_a_bundle_that_is_moved_away_is_named(bundle_copy: Path) -> None:
    bundle = open_bundle(bundle_copy)
    runs, x = Stepwise(bundle), image(bundle)
    assert bundle.statistics
    shutil.rmtree(bundle_copy)
    with pytest.raises(BundleError, match=r"00_stem\.onnx cannot be read any more \(.*\); load the bundle again$"):
        runs.run(x, gates_of(bundle, "1111" * 4))


def test_a_bundle_that_is_overwritten_changes_nothing_that_was_read(bundle_copy: Path) -> None:
    bundle = open_bundle(bundle_copy)
    runs, x, gates = Stepwise(bundle), image(bundle), gates_of(bundle, "0110" * 4)
    first = runs.run(x, gates)
    gc.collect()
    assert str(bundle_copy) not in Path("/proc/self/maps").read_text()  # to read a mapping of a cut file is to die
    os.truncate(bundle_copy / "blocks" / "weights.bin", 0)
    assert np.array_equal(runs.run(x, gates), first)


def test_threads_get_their_own_answers(widthwise: Bundle, stepwise: Stepwise) -> None:
    rng = np.random.default_rng(2)
    cases = [(image(widthwise, i), gates_of(widthwise, "".join(rng.choice(["0", "1"], 16)))) for i in range(8)]
    expected = [stepwise.run(x, gates) for x, gates in cases]
    wrong: list[int] = []

    def run(offset: int) -> None:
        for i in range(60):
            k = (i + offset) % len(cases)
            if not np.array_equal(stepwise.run(*cases[k]), expected[k]):
                wrong.append(k)

    threads = [threading.Thread(target=run, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_closed_and_run_again_it_answers_the_same(widthwise: Bundle) -> None:
    runs, x, gates = Stepwise(widthwise), image(widthwise), gates_of(widthwise, "0110" * 4)
    first = runs.run(x, gates)
    runs.close()
    assert runs.n_sessions == runs.gathered_bytes == 0
    assert np.array_equal(runs.run(x, gates), first)
