"""UNIDIRECTIONAL_SEQUENCE_LSTM in floats, hybrid and in integers: numpy against LiteRT over several invocations (state
stays), and C against numpy bit for bit. The integer kernel equals LiteRT's bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from cortex import M4
from plain_calls import Plain, PlainCortex, PlainHost, PlainRunner, same
from single_op import Lite, T, model

from firmware_tools import fixed_point_16, graph
from firmware_tools.ops import Array, Run, Unsupported


@dataclass(frozen=True)
class Sizes:
    batches: int
    steps: int
    inputs: int
    units: int
    time_major: bool = False
    clip: float = 0.0
    asymmetric: bool = False

    @property
    def x(self) -> tuple[int, int, int]:
        return (self.steps, self.batches, self.inputs) if self.time_major else (self.batches, self.steps, self.inputs)


def tensors_of(seed: int, sizes: Sizes, kind: str) -> tuple[list[T | None], list[T], T]:
    """The 24 inputs, the intermediate tensors and the output."""
    random = np.random.default_rng(seed)
    n, k = sizes.units, sizes.inputs
    state = (sizes.batches, n)
    out = (*sizes.x[:2], n)

    def weights(columns: int) -> T:
        if kind == "float":
            data = (random.standard_normal((n, columns)) / np.sqrt(columns) * 1.5).astype(np.float32)
            return T("float32", data.shape, data=data)
        whole = random.integers(-127, 128, (n, columns)).astype(np.int8)
        return T("int8", whole.shape, float(np.float32(random.uniform(0.5, 1.5) / 127)), data=whole)

    def bias() -> T:
        if kind == "int8":
            return T("int32", (n,), 1e-4, data=random.integers(-9000, 9000, n).astype(np.int32))
        return T("float32", (n,), data=random.standard_normal(n).astype(np.float32))

    tensors: list[T | None] = [weights(k) for _ in range(4)] + [weights(n) for _ in range(4)]
    tensors += [None] * 3 + [bias() for _ in range(4)] + [None] * 2
    if kind == "int8":
        h_scale, h_zero = float(np.float32(random.uniform(0.006, 0.008))), int(random.integers(-20, 20))
        x = T("int8", sizes.x, float(np.float32(random.uniform(0.01, 0.03))), int(random.integers(-60, 60)))
        states = [T("int8", state, h_scale, h_zero), T("int16", state, 2.0 ** -int(random.integers(10, 14)))]
        intermediates = [T("float32", ()) for _ in range(4)] + [T("int8", (), h_scale, h_zero)]
        return [x, *tensors, *states, *[None] * 4], intermediates, T("int8", out, h_scale, h_zero)
    return [T("float32", sizes.x), *tensors, *[T("float32", state)] * 2, *[None] * 4], [], T("float32", out)


def lstm_model(seed: int, sizes: Sizes, kind: str, change: Callable[[Any], None] = lambda model: None) -> bytes:
    """A file of one LSTM; its states are variables, which `model` of single_op knows nothing of."""
    inputs, intermediates, out = tensors_of(seed, sizes, kind)
    options = schema.UnidirectionalSequenceLSTMOptionsT()
    options.fusedActivationFunction, options.timeMajor = schema.ActivationFunctionType.TANH, sizes.time_major
    options.cellClip, options.asymmetricQuantizeInputs = sizes.clip, sizes.asymmetric
    version = {"float": 1, "hybrid": 3, "int8": 3}[kind]
    content = model("UNIDIRECTIONAL_SEQUENCE_LSTM", [*inputs, *intermediates], [out], options, version)
    whole = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    graph_of, operator = whole.subgraphs[0], whole.subgraphs[0].operators[0]
    for index in operator.inputs[18:20]:
        graph_of.tensors[index].isVariable = True
    operator.intermediates, operator.inputs = list(operator.inputs[24:]), list(operator.inputs[:24])
    graph_of.inputs = list(operator.inputs[:1])
    change(whole)
    builder = flatbuffers.Builder(1024)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())


SIZES = (
    Sizes(1, 6, 5, 4),
    Sizes(1, 3, 16, 12, clip=0.7),
    Sizes(2, 4, 3, 7, time_major=True),
    Sizes(3, 5, 8, 9, asymmetric=True),
)
# against LiteRT: float and hybrid differ in the functions alone, and by one step of a row where a tie breaks otherwise
BOUNDS = {"float": 2e-6, "hybrid": 2e-6, "int8": 0}
CASES = [(kind, n) for kind in BOUNDS for n in range(len(SIZES))]
PLAINS = [Plain.of(f"lstm-{kind}-{n}", lstm_model(n, SIZES[n], kind)) for kind, n in CASES]


def inputs(kind: str, n: int) -> Iterator[Array]:
    """Three invocations."""
    random = np.random.default_rng(n)
    for scale in (1.0, 3.0, 0.1):
        x = random.standard_normal(SIZES[n].x) * scale
        yield np.clip(np.rint(x * 40), -128, 127).astype(np.int8) if kind == "int8" else x.astype(np.float32)


@pytest.mark.parametrize("i", range(len(CASES)), ids=[plain.name for plain in PLAINS])
def test_reference_agrees_with_lite(i: int) -> None:
    kind, n = CASES[i]
    lite, run = Lite(lstm_model(n, SIZES[n], kind)), Run()
    for x in inputs(kind, n):
        (found,), (expected,) = PLAINS[i].reference((x,), run), lite.run(x)
        assert np.abs(found.astype(np.float64) - expected).max() <= BOUNDS[kind]
        assert np.ptp(found.astype(np.float64)) > (20 if kind == "int8" else 0.2)  # not stuck at one end


def test_state_is_that_of_lite_after_a_reset() -> None:
    lite, plain = Lite(lstm_model(0, SIZES[0], "int8")), PLAINS[CASES.index(("int8", 0))]
    x = next(inputs("int8", 0))
    first = lite.run(x)[0]
    assert not np.array_equal(lite.run(x)[0], first)
    lite.interpreter.reset_all_variables()
    assert np.array_equal(lite.run(x)[0], first)
    assert np.array_equal(plain.reference((x,), Run())[0], first)


def host(folder: Path) -> PlainRunner:
    return PlainHost(PLAINS, folder)


def host_undefined(folder: Path) -> PlainRunner:
    return PlainHost(PLAINS, folder, sanitize=True)


def m4(folder: Path) -> PlainRunner:
    return PlainCortex(M4, PLAINS, folder)


@pytest.mark.parametrize("make", (host, host_undefined, m4), ids=lambda make: make.__name__)
def test_kernel_equals_reference(make: Callable[[Path], PlainRunner], tmp_path: Path) -> None:
    runner = make(tmp_path)
    for i, (kind, n) in enumerate(CASES):
        run = Run()
        for x in inputs(kind, n):
            found, expected = runner.run(i, (x,))[0], PLAINS[i].reference((x,), run)[0]
            assert same(found, expected), PLAINS[i].name


def test_fixed_point_functions_are_accurate() -> None:
    raw = np.arange(-32768, 32768)
    assert np.abs(fixed_point_16.logistic(raw) / 32768 - 1 / (1 + np.exp(-raw / 4096))).max() < 2e-4
    for bits in range(7):
        assert np.abs(fixed_point_16.tanh(raw, bits) / 32768 - np.tanh(raw / 2.0 ** (15 - bits))).max() < 4e-4


def set_input(position: int, source: int) -> Callable[[Any], None]:
    """A change of the file: an optional input becomes one that another position has."""

    def change(whole: Any) -> None:
        operator = whole.subgraphs[0].operators[0]
        operator.inputs[position] = operator.inputs[source] if source >= 0 else -1

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_input(9, 12), "peephole"),
        (set_input(16, 5), "projection"),
        (set_input(20, 12), "layer normalization"),
        (set_input(1, -1), "coupled"),
    ],
)
def test_variants_are_refused_in_words(change: Callable[[Any], None], words: str) -> None:
    content = lstm_model(0, SIZES[0], "float", change)
    with pytest.raises(Unsupported, match=words):
        Plain.of("variant", content)
    assert graph.read(content).subgraphs[0].operators[0].op == "UNIDIRECTIONAL_SEQUENCE_LSTM"
