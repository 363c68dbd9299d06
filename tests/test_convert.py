"""What convert writes, run by LiteRT: against the numpy oracle, signature against signature, and the file itself."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import texts
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from lite import RESOLVERS, Model
from oracle import divergence, sample

from edge.make.checkpoints import Checkpoint, RopeScaling
from edge.make.convert import convert, save
from edge.make.quantize import quantize
from firmware_tools import graph
from firmware_tools.errors import BadFile, UserError

KERNELS = sorted(RESOLVERS)
SHAPES = {
    "grouped": {},
    "one key head": {"kv_heads": 1, "heads": 8},
    "no groups": {"kv_heads": 4},
    "one layer, one head": {"layers": 1, "heads": 1, "kv_heads": 1, "dim": 6, "hidden_dim": 5},
    "other constants": {"rope_theta": 500.0, "norm_eps": 1e-3},
    "biases of q, k and v, wide heads": {"biases": "q k v", "head_dim": 20},
    "every bias, narrow heads": {"biases": "q k v o gate up down", "head_dim": 4},
    "linear RoPE": {"rope_scaling": RopeScaling("linear", 4.0)},
    "RoPE of Llama 3": {"rope_scaling": RopeScaling("llama3", 8.0, 1.0, 4.0, 64), "head_dim": 16},
    "YaRN": {"rope_scaling": RopeScaling("yarn", 4.0, 1.0, 32.0, 128), "head_dim": 16},
}


@cache
def tiny_file(scheme: str) -> bytes:
    return convert(tiny.checkpoint(), scheme, prefill=5)


def kl_of(data: bytes, kernels: str, spoken: texts.Texts) -> float:
    """Mean KL divergence of a file's decode steps from known logits, nats per token."""
    rows = []
    for tokens, _ in spoken:
        model = Model(data, kernels)
        rows.append([model.decode(token, position) for position, token in enumerate(tokens)])
    return divergence(np.concatenate([truth for _, truth in spoken]), np.concatenate(rows))


def dequantized(checkpoint: Checkpoint) -> Checkpoint:
    """The same model with the weights that an int8 file holds."""
    weights = {
        name: quantize(weight, "int8").dequantized() if weight.ndim == 2 else weight
        for name, weight in checkpoint.weights.items()
    }
    return replace(checkpoint, weights=weights)


# ------------------------------------------------------------------------------------------- against the oracle


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(("scheme", "limit"), [("float32", 1e-6), ("float16", 1e-6), ("int8", 0.002)])
def test_stories_differ_little_from_float(shared_data: Path, scheme: str, limit: float, kernels: str) -> None:
    checkpoint, spoken = texts.stories(shared_data)
    assert sum(len(tokens) for tokens, _ in spoken) >= texts.LEAST
    assert kl_of(convert(checkpoint, scheme, context=256), kernels, spoken) <= limit


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(("scheme", "limit"), [("float32", 1e-6), ("float16", 1e-6), ("int8", 0.002)])
def test_the_shipped_model_differs_little_from_float(scheme: str, limit: float, kernels: str) -> None:
    checkpoint, spoken = texts.shipped()
    assert sum(len(tokens) for tokens, _ in spoken) >= texts.LEAST
    assert kl_of(convert(checkpoint, scheme), kernels, spoken) <= limit


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_float32_equals_the_oracle(name: str, tied: bool, kernels: str) -> None:
    checkpoint = tiny.checkpoint(tied=tied, **SHAPES[name])
    tokens, truth = sample(checkpoint, checkpoint.architecture.context, seed=3)
    model = Model(convert(checkpoint, "float32"), kernels)
    for position, token in enumerate(tokens):
        np.testing.assert_allclose(model.decode(token, position), truth[position], atol=2e-4)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_int8_weights_are_those_of_quantize(name: str, tied: bool, kernels: str) -> None:
    """Against the oracle with the very int8 weights only the rounding of activations is left."""
    checkpoint = tiny.checkpoint(tied=tied, **SHAPES[name])
    spoken = [sample(dequantized(checkpoint), checkpoint.architecture.context, seed) for seed in range(4)]
    assert kl_of(convert(checkpoint, "int8"), kernels, spoken) < 0.01


def test_a_row_of_zeros_and_a_tiny_row_survive_int8() -> None:
    checkpoint = tiny.checkpoint()
    gate = checkpoint.weights["0.gate"].copy()
    gate[3], gate[4] = 0, 1e-39
    checkpoint = replace(checkpoint, weights={**checkpoint.weights, "0.gate": gate})
    spoken = [sample(checkpoint, 20, seed=1)]
    for kernels in KERNELS:
        assert kl_of(convert(checkpoint), kernels, spoken) < 0.05


# ---------------------------------------------------------------------------------------- prefill against decode


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("scheme", ["float32", "int8"])
@given(data=st.data())
@settings(max_examples=20, deadline=None)
def test_any_split_of_a_text_gives_the_same(scheme: str, kernels: str, data: st.DataObject) -> None:
    """Stretches of 1 to 5 tokens through either signature, to the end of the context, against decode alone."""
    model, plain = Model(tiny_file(scheme), kernels), Model(tiny_file(scheme), kernels)
    context = tiny.SHAPE.context
    tokens = data.draw(st.lists(st.integers(0, tiny.SHAPE.vocab_size - 1), min_size=1, max_size=context))
    expected = [plain.decode(token, position) for position, token in enumerate(tokens)]
    position = 0
    while position < len(tokens):
        length = data.draw(st.integers(1, min(5, len(tokens) - position)))
        part = tokens[position : position + length]
        by_prefill = length > 1 or data.draw(st.booleans())
        logits = model.prefill(part, position) if by_prefill else model.decode(part[0], position)
        position += length
        # int8: an activation on the edge between two steps may fall either way, one step is .8 % of its row's largest
        np.testing.assert_allclose(logits, expected[position - 1], atol=1e-4 if scheme == "float32" else 0.3)
    for name, cache_rows in plain.caches.items():
        atol = 1e-4 if scheme == "float32" else 0.1
        np.testing.assert_allclose(model.caches[name][:, :position], cache_rows[:, :position], atol=atol)


@pytest.mark.parametrize("kernels", KERNELS)
def test_stories_prefill_agrees_with_decode(shared_data: Path, kernels: str) -> None:
    checkpoint, spoken = texts.stories(shared_data)
    data = convert(checkpoint, context=256, prefill=32)
    by_decode, by_prefill = [], []
    for (tokens, _), length in zip(spoken, (1, 2, 3, 7, 16, 31, 32, 5), strict=True):
        one, many = Model(data, kernels), Model(data, kernels)
        decoded = [one.decode(token, position) for position, token in enumerate(tokens)]
        for start in range(0, 256 - length, length):
            by_prefill.append(many.prefill(tokens[start : start + length], start))
            by_decode.append(decoded[start + length - 1])
    assert divergence(np.array(by_decode), np.array(by_prefill)) < 1e-4


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_padding_is_of_no_matter(scheme: str, kernels: str) -> None:
    """Bit for bit, also where the padding lies behind the end of the context."""
    for start, length in ((0, 3), (7, 4), (tiny.SHAPE.context - 2, 2), (tiny.SHAPE.context - 1, 1)):
        models = [Model(tiny_file(scheme), kernels) for _ in range(2)]
        for model in models:
            for position in range(start):
                model.decode(position, position)
        zeros, others = (
            model.prefill([7, 8, 9, 10][:length], start, padding=p) for model, p in zip(models, (0, 299), strict=True)
        )
        np.testing.assert_array_equal(zeros, others)
        for name in models[0].caches:
            np.testing.assert_array_equal(models[0].caches[name], models[1].caches[name])


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("scheme", ["float32", "int8"])
@pytest.mark.parametrize("filling", [1.0, 1e30])
def test_rows_not_filled_are_of_no_matter(scheme: str, kernels: str, filling: float) -> None:
    clean, dirty = Model(tiny_file(scheme), kernels), Model(tiny_file(scheme), kernels, filling)
    np.testing.assert_array_equal(clean.prefill([5, 6, 7], 0), dirty.prefill([5, 6, 7], 0))
    for position in range(3, tiny.SHAPE.context):
        np.testing.assert_array_equal(clean.decode(position, position), dirty.decode(position, position))


# --------------------------------------------------------------------------------------------------- the file


def test_the_same_arguments_give_the_same_bytes() -> None:
    here = Path(__file__).parent
    code = "import hashlib, tiny; from edge.make.convert import convert; import sys"
    code += "; print(hashlib.sha256(convert(tiny.checkpoint())).hexdigest(), 'tensorflow' in sys.modules)"
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {[str(here), str(here.parent)]!r}; {code}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert output.split() == [hashlib.sha256(convert(tiny.checkpoint())).hexdigest(), "False"]


def test_card_and_tokenizer_travel_along_whatever_they_hold() -> None:
    hostile = '*/ " \\ \n \x1b[31m %s {} </script> ü 漢 \u2028'
    card = {"name": hostile, "template": {"before": hostile, "after": "\n"}, "extra": [1, {"deep": None}]}
    checkpoint = tiny.checkpoint(card=card)
    read = graph.read(convert(checkpoint, context=16, prefill=4))
    assert read.tokenizer == checkpoint.tokenizer
    assert read.card["architecture"]["context"] == 16 and read.card["architecture"]["prefill"] == 4
    assert {key: read.card[key] for key in checkpoint.card} == checkpoint.card
    assert read.metadata["edge.card"].isascii()


@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_weights_are_stored_once(scheme: str) -> None:
    read = graph.read(convert(tiny.checkpoint(), scheme))
    decode, prefill = (read.subgraphs[read.signatures[name].subgraph] for name in ("decode", "prefill"))

    def buffers(subgraph: graph.Subgraph, op: str, operand: int) -> list[int]:
        operators = [operator for operator in subgraph.operators if operator.op == op]
        return [subgraph.tensors[operator.inputs[operand]].buffer for operator in operators]

    weights = buffers(decode, "FULLY_CONNECTED", 1)
    assert len(weights) == 4 * tiny.SHAPE.layers + 1
    assert weights == buffers(prefill, "FULLY_CONNECTED", 1)
    assert weights[-1] in buffers(decode, "GATHER", 0), "the tied head has the embedding's buffer"


def test_a_model_of_the_shipped_size_is_small() -> None:
    """150,000 parameters with a vocabulary of 512 take at most 250 KB."""
    size = {"vocab_size": 512, "dim": 64, "hidden_dim": 172, "layers": 3, "heads": 4, "kv_heads": 2, "context": 128}
    checkpoint = tiny.checkpoint(**size)
    assert sum(weight.size for weight in checkpoint.weights.values()) > 150_000
    assert len(convert(checkpoint)) <= 250_000


@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_xnnpack_computes_all_layers_in_one_piece(scheme: str) -> None:
    from ai_edge_litert.interpreter import Interpreter

    lite = Interpreter(model_content=convert(tiny.checkpoint(), scheme))
    lite.allocate_tensors()
    operators = lite._get_ops_details()
    delegated = [operator for operator in operators if operator["op_name"] == "DELEGATE"]
    assert len(delegated) == 1
    made_before = {"GATHER", "CAST", "SELECT_V2"}  # what enters the piece from outside
    producers = {int(o): op["op_name"] for op in operators if op["op_name"] != "DELEGATE" for o in op["outputs"]}
    assert {producers[int(i)] for i in delegated[0]["inputs"] if int(i) in producers} <= made_before
    assert {output["index"] for output in lite.get_output_details()} == {int(o) for o in delegated[0]["outputs"]}


def test_the_document_names_every_op_and_its_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parent.parent / "docs" / "model-file.md").read_text(encoding="utf-8")
    data = convert(tiny.checkpoint(kv_heads=4, context=128))  # the sizes in the program
    read = graph.read(data)
    operators = {(o.op, o.version) for subgraph in read.subgraphs for o in subgraph.operators}
    assert all(op in text for op, _ in operators)
    newer = {("CAST", 3), ("GATHER", 2), ("FULLY_CONNECTED", 12)}
    assert {(op, version) for op, version in operators if version > 1} == newer, "as the document says"
    (tmp_path / "model.tflite").write_bytes(data)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    model, token = Model(data, "xnnpack"), 1
    for position in range(32):
        token = int(model.decode(token, position).argmax())
    assert names["token"] == token


# ------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"context": 25}, "context of 25"),
        ({"context": 1}, "context of 1"),
        ({"context": 8, "prefill": 9}, "prefill of 9"),
        ({"prefill": 1}, "prefill of 1"),
        ({"scheme": "int3"}, "'int3'"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        convert(tiny.checkpoint(), **arguments)
    assert error.value.hint


@pytest.mark.parametrize(
    "card",
    [
        {"name": 5},
        {"name": ""},
        {"bos_id": 300},
        {"bos_id": True},
        {"stop_ids": [-1]},
        {"stop_ids": None},
        {"template": {"before": ""}},
        {"licence": "\ud800"},
        {"source": object()},
        {"extra": float("nan")},
    ],
)
def test_a_card_that_is_not_one(card: dict[str, object]) -> None:
    with pytest.raises(BadFile):
        convert(tiny.checkpoint(card=card))


@pytest.mark.parametrize("tokenizer", [b"", b"{}", b"\xff\x00", tiny.checkpoint(vocab_size=301).tokenizer])
def test_a_tokenizer_that_does_not_fit(tokenizer: bytes) -> None:
    with pytest.raises(BadFile):
        convert(replace(tiny.checkpoint(), tokenizer=tokenizer))


def test_weights_that_are_damaged() -> None:
    good = tiny.checkpoint()
    spoiled = good.weights["1.up"].copy()
    spoiled[2, 3] = np.nan
    for bad in (spoiled, good.weights["1.up"].T, good.weights["1.up"].astype(np.float64)):
        with pytest.raises(BadFile, match=r"1\.up"):
            convert(replace(good, weights={**good.weights, "1.up": bad}))
    missing = {name: weight for name, weight in good.weights.items() if name != "0.o"}
    with pytest.raises(BadFile, match=r"0\.o"):
        convert(replace(good, weights=missing))


@pytest.mark.parametrize("change", [{"heads": 3}, {"kv_heads": 3}, {"head_dim": 7}, {"kv_heads": 0}])
def test_shapes_that_no_decoder_has(change: dict[str, int]) -> None:
    good = tiny.checkpoint()
    with pytest.raises(BadFile, match="no decoder has this shape"):
        convert(replace(good, architecture=replace(good.architecture, **change)))


def test_save_writes_whole_files_only(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    save(b"old", path)
    save(b"new", path)
    assert path.read_bytes() == b"new"
    (tmp_path / "folder.tflite").mkdir()
    for impossible in (tmp_path / "missing" / "model.tflite", tmp_path / "folder.tflite"):
        with pytest.raises(UserError, match="cannot write"):
            save(b"new", impossible)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder.tflite", "model.tflite"]


def test_the_card_is_sorted_json() -> None:
    raw = graph.read(convert(tiny.checkpoint())).metadata["edge.card"]
    assert list(json.loads(raw)) == sorted(json.loads(raw))
