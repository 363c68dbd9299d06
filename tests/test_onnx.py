"""ONNX sources: models from PyTorch, every op against ONNX's own reference, and what is said of wrong files."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from click.testing import CliRunner
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx_cases import CASES, Case

from edge.cli import main
from edge.make import checkpoints
from edge.make.checkpoints import Request
from edge.make.formats import onnx_ops
from edge.run.plain import open_plain
from firmware_tools import graph, interpret, lower
from firmware_tools.errors import BadFile, MissingTool, UserError

FOLDER = Path(__file__).resolve().parent / "onnx"
MODELS = ("mlp", "cnn", "keyword", "lstm", "gru", "encoder")
FILES = sorted(path.name for path in FOLDER.glob("*.onnx"))
# of the largest output: what the largest error may be
BOUNDS = {"float32": 1e-6, "float16": 1e-3, "int8": 0.02}
Array = NDArray[Any]


def converted(path: Path, scheme: str = "float32") -> bytes:
    return checkpoints.convert_plain(path, Request(scheme))


def by_litert(model: bytes, *inputs: Array) -> dict[str, Array]:
    runner = Interpreter(model_content=model, num_threads=1).get_signature_runner()
    details = runner.get_input_details()
    assert len(details) == len(inputs)
    made: dict[str, Array] = runner(**{n: x.astype(details[n]["dtype"]) for n, x in zip(details, inputs, strict=True)})
    return made


def by_twin(model: bytes, *inputs: Array) -> list[Array]:
    """What the firmware computes, in numpy."""
    program = lower.program(graph.read(model))
    given = [x.astype(border.dtype) for x, border in zip(inputs, program.borders_in, strict=True)]
    return interpret.Plain(program).invoke(given)


# --- whole models


@pytest.mark.parametrize("scheme", BOUNDS)
@pytest.mark.parametrize("name", FILES)
def test_a_model_computes_what_pytorch_computes(name: str, scheme: str) -> None:
    model = converted(FOLDER / name, scheme)
    known = np.load(FOLDER / f"{name.removesuffix('.onnx').split('_')[0]}.npz")
    bound = BOUNDS[scheme] * float(np.abs(known["outputs"]).max())
    for row, expected in zip(known["inputs"], known["outputs"], strict=True):
        (lite,) = by_litert(model, row[None]).values()
        (twin,) = by_twin(model, row[None])
        assert lite.shape == twin.shape == (1, *expected.shape)
        assert np.abs(lite[0] - expected).max() <= bound
        assert np.abs(twin[0] - expected).max() <= bound


def test_every_model_is_exported_in_three_ways() -> None:
    assert len(FILES) == 3 * len(MODELS)
    assert all((FOLDER / f"{name}{ending}.onnx").exists() for name in MODELS for ending in ("", "_script", "_14"))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in ("lstm", "encoder") else pytest.mark.system) for name in MODELS]
)
def test_a_board_computes_the_same_bit_for_bit(name: str, tmp_path: Path) -> None:
    path, rows = tmp_path / "m.tflite", np.load(FOLDER / f"{name}.npz")["inputs"]
    path.write_bytes(converted(FOLDER / f"{name}.onnx", "int8"))
    with open_plain("virtual-m4", path) as running:
        for row in rows:
            x = row[None].astype(running.inputs[0].dtype)
            (expected,) = by_twin(path.read_bytes(), x)
            running.invoke([x])
            assert np.array_equal(running.output(0), expected)


@pytest.mark.parametrize("name", ["cnn", "lstm", "encoder"])
def test_int8_weights_are_smaller(name: str) -> None:
    """And those are int8: of the filters, the matrices and the table."""
    sizes = {scheme: len(converted(FOLDER / f"{name}.onnx", scheme)) for scheme in BOUNDS}
    assert max(sizes["int8"], sizes["float16"]) < sizes["float32"]
    model = graph.read(converted(FOLDER / f"{name}.onnx", "int8")).subgraphs[0]
    kinds = {o.op for o in model.operators if any(i >= 0 and model.tensors[i].dtype == "int8" for i in o.inputs)}
    assert kinds == {"cnn": {"CONV_2D"}}.get(name, {"EMBEDDING_LOOKUP", "FULLY_CONNECTED"})


def test_channels_stay_last_between_the_layers_of_a_cnn() -> None:
    """One TRANSPOSE where the image comes in, none where its means go out."""
    operators = [o.op for o in graph.read(converted(FOLDER / "cnn.onnx")).subgraphs[0].operators]
    assert operators.count("TRANSPOSE") == 1


def test_the_same_file_gives_the_same_bytes() -> None:
    assert converted(FOLDER / "encoder.onnx", "int8") == converted(FOLDER / "encoder.onnx", "int8")


# --- ops


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{case.op}" for i, case in enumerate(CASES)])
def test_an_op_computes_what_onnx_says(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "case.onnx"
    model = case.model()
    expected = ReferenceEvaluator(model).run(None, {f"x{i}": x for i, x in enumerate(case.inputs())})
    if case.op in ("Shape", "Size"):
        onnx.save(model, path)
        with pytest.raises(UserError, match="does not depend on the input"):
            converted(path)
        return
    onnx.save(model, path)
    made = converted(path)
    results = by_litert(made, *case.inputs())
    for index, (wanted, twin) in enumerate(zip(expected, by_twin(made, *case.inputs()), strict=True)):
        found = results[f"y{index}"]
        assert found.shape == twin.shape == np.shape(wanted)
        assert np.allclose(found, wanted, rtol=2e-6, atol=2e-6)
        assert np.allclose(twin, wanted, rtol=2e-6, atol=2e-6)


def test_softmax_of_old_operator_sets_is_over_all_axes_from_one_on(tmp_path: Path) -> None:
    """Until 12; ONNX's own reference knows the newer meaning alone."""
    node, x = helper.make_node("Softmax", ["x"], ["y"], axis=1), np.random.default_rng(1).normal(0, 1, (2, 3, 4))
    model = converted(saved(tmp_path, node, shape=x.shape, opset=11))
    powers = np.exp(x).reshape(2, 12)
    expected = (powers / powers.sum(1, keepdims=True)).reshape(x.shape)
    assert np.allclose(by_litert(model, x.astype(np.float32))["y"], expected, atol=1e-6)


def test_every_op_has_a_case() -> None:
    assert {case.op for case in CASES} == set(onnx_ops.OPS)


def test_the_docs_list_the_ops() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "onnx.md").read_text(encoding="utf-8")
    table = page.split("## Ops")[1].split("## ")[0]
    assert set(re.findall(r"`(\w+)`", table)) == {*onnx_ops.OPS, *onnx_ops.CONSTANT_ONLY}


# --- what is not taken


def saved(tmp_path: Path, *nodes: Any, shape: Any = (1, 4), weights: Any = (), opset: int = 20) -> Path:
    """A model of these nodes from x to y."""
    made = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1, 4))],
        list(weights),
    )
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("my.own", 1)], ir_version=9
    )
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "m.onnx"


@pytest.mark.parametrize(
    ("node", "message", "hint"),
    [
        (helper.make_node("Einsum", ["x"], ["y"], "mix", equation="ij->ji"), r"Einsum \('mix'\)", "matmul"),
        (helper.make_node("Det", ["x"], ["y"], "d"), r"ops that are not converted: Det", "docs/onnx.md"),
        (helper.make_node("Mine", ["x"], ["y"], "z", domain="my.own"), r"my.own.Mine", "docs/onnx.md"),
        (helper.make_node("Softmax", ["x"], ["y"], "s", axis=7), r"Softmax \('s'\) is not converted: axis 7", "docs"),
        (helper.make_node("Trilu", ["x"], ["y"], "t"), r"Trilu \('t'\) is not converted: it depends", "fixed shapes"),
        (helper.make_node("Reshape", ["x", "x"], ["y"], "r"), r"its shape depends on the input", "fixed shapes"),
    ],
)
def test_a_node_that_is_not_taken_is_named(node: Any, message: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message) as error:
        converted(saved(tmp_path, node))
    assert hint in error.value.hint


def test_an_open_batch_is_one_and_other_open_axes_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    made = graph.read(converted(saved(tmp_path, node, shape=("batch", 4))))
    assert made.subgraphs[0].tensors[made.subgraphs[0].inputs[0]].shape == (1, 4)
    with pytest.raises(UserError, match=r"axis 1 \('length'\) of the input 'x' has no fixed size"):
        converted(saved(tmp_path, node, shape=(1, "length")))


def test_an_input_of_an_unknown_type_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, helper.make_node("Relu", ["x"], ["y"]))
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = 99
    onnx.save(model, path)
    with pytest.raises(BadFile, match="99|type"):
        converted(path)


@pytest.mark.parametrize("scheme", ["int8-static", "int16x8"])
def test_integer_activations_are_refused(scheme: str) -> None:
    with pytest.raises(UserError, match=f"not quantized to {scheme}") as error:
        converted(FOLDER / "mlp.onnx", scheme)
    assert "int8, float16, float32" in error.value.hint


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingTool) as error:
        converted(FOLDER / "mlp.onnx")
    assert "edge-tinyml[onnx]" in error.value.hint


def external(tmp_path: Path, location: str, **entries: str) -> Path:
    weight = numpy_helper.from_array(np.ones(4, np.float32), "w")
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=value)
    return saved(tmp_path, helper.make_node("Add", ["x", "w"], ["y"]), weights=[weight])


def test_weights_in_a_second_file_are_read_beside_the_model(tmp_path: Path) -> None:
    numbers = np.arange(6, dtype=np.float32)
    (tmp_path / "m.onnx.data").write_bytes(numbers.tobytes())
    model = converted(external(tmp_path, "m.onnx.data", offset="8", length="16"))
    assert by_litert(model, np.zeros((1, 4), np.float32))["y"].tolist() == [[2, 3, 4, 5]]


@pytest.mark.parametrize("location", ["../w", "/etc/passwd", "a/w", "", "..", "c:w", "absent", "link", "short"])
def test_weights_elsewhere_are_refused(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "w").write_bytes(bytes(16))
    (folder / "short").write_bytes(bytes(15))
    (folder / "link").symlink_to(tmp_path / "w")
    with pytest.raises(BadFile, match="weights|shorter"):
        converted(external(folder, location))


def test_a_constant_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    size = numpy_helper.from_array(np.array([1 << 20, 1 << 20]), "s")
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["c"], "huge"), helper.make_node("Add", ["x", "c"], ["y"])]
    with pytest.raises(UserError, match="huge.*more than"):
        converted(saved(tmp_path, *nodes, weights=[size]))


def test_damaged_files_are_one_error(tmp_path: Path) -> None:
    """Truncated, with bytes changed, or not ONNX at all: never another exception."""
    data, path, refused = (FOLDER / "gru.onnx").read_bytes(), tmp_path / "m.onnx", 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        damaged = bytearray(data if seed % 3 else data[: random.integers(len(data))])
        for _ in range(random.integers(1, 8)):
            damaged[random.integers(len(damaged)) if seed % 2 else random.integers(min(2000, len(damaged)))] = (
                random.integers(256)
            )
        path.write_bytes(damaged if seed else random.bytes(500))
        try:
            converted(path)
        except UserError:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07"])
def test_what_is_no_onnx_is_said_by_the_command(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    result = CliRunner().invoke(main, ["convert", str(tmp_path / "m.onnx"), "-o", str(tmp_path / "m.tflite")])
    assert result.exit_code == 1 and "m.onnx is no ONNX file, or is truncated" in result.output
    assert not (tmp_path / "m.tflite").exists()


def test_the_command_converts_and_runs(tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    result = CliRunner().invoke(main, ["convert", str(FOLDER / "mlp.onnx"), "-o", str(model), "--quantize", "float32"])
    assert result.exit_code == 0, result.output
    assert model.stat().st_size > 6000
