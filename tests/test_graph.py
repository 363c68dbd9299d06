"""The reader and verifier of .tflite files: our own, others', damaged and hostile ones."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import remodel
import tiny
from ai_edge_litert.interpreter import Interpreter
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.make.convert import convert
from firmware_tools import fuse, graph, verify
from firmware_tools.errors import BadFile, UserError

OTHERS = {
    "ad01_int8": ["FULLY_CONNECTED"] * 10,
    "hello_world_float": ["FULLY_CONNECTED"] * 3,
    "hello_world_int8": ["FULLY_CONNECTED"] * 3,
    "kws_ref_model": ["CONV_2D", *["DEPTHWISE_CONV_2D", "CONV_2D"] * 4]
    + ["AVERAGE_POOL_2D", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"],
    "micro_speech_quantized": ["RESHAPE", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "SOFTMAX"],
}


@pytest.fixture(scope="module")
def model() -> bytes:
    return convert(tiny.checkpoint())


@pytest.fixture(scope="module")
def small() -> bytes:
    """One layer of decode without names for it, large weights and metadata: little else than structure."""

    def strip(model: Any) -> None:
        model.subgraphs, model.metadata, model.signatureDefs = model.subgraphs[:1], [], []
        model.buffers = [b if b.data is None or len(b.data) < 1000 else type(b)() for b in model.buffers]

    return remodel.edited(convert(tiny.checkpoint(layers=1)), strip)


def assert_as_litert_sees_it(data: bytes) -> None:
    """Names, shapes, types and scales of every tensor, and the ops, as LiteRT's own reader has them."""
    subgraph = graph.read(data).subgraphs[0]
    lite = Interpreter(model_content=data)
    for details in lite.get_tensor_details():
        if details["index"] >= len(subgraph.tensors):  # LiteRT's scratch tensors come last
            continue
        tensor = subgraph.tensors[details["index"]]
        assert tensor.name == details["name"]
        assert tensor.shape == tuple(details["shape"])
        assert tensor.dtype == np.dtype(details["dtype"]).name
        scales = details["quantization_parameters"]["scales"]
        assert (tensor.quantization is None) == (scales.size == 0)
        if tensor.quantization is not None:
            assert np.array_equal(tensor.quantization.scale, scales)
            assert np.array_equal(tensor.quantization.zero_point, details["quantization_parameters"]["zero_points"])
            assert tensor.quantization.axis == details["quantization_parameters"]["quantized_dimension"]
        if tensor.data is not None:
            assert np.array_equal(tensor.data, lite.get_tensor(details["index"]))
    assert list(subgraph.inputs) == [details["index"] for details in lite.get_input_details()]


@pytest.mark.parametrize("name", OTHERS)
def test_reads_files_of_others(shared_data: Path, name: str) -> None:
    path = shared_data / "tflite" / f"{name}.tflite"
    read = graph.read(path)
    (subgraph,) = read.subgraphs
    assert [operator.op for operator in subgraph.operators] == OTHERS[name]
    assert read.contract is None and read.card == {} and read.tokenizer == b""
    assert_as_litert_sees_it(path.read_bytes())


@pytest.mark.parametrize("scheme", ["int8", "float32"])
def test_reads_ours(scheme: str) -> None:
    data = convert(tiny.checkpoint(), scheme)
    read = graph.read(data)
    assert read.contract == "1.0" and read.card["name"] == "tiny" and set(read.signatures) == {"decode", "prefill"}
    assert set(read.signatures["decode"].inputs) == {"token", "position", "k_0", "k_1", "v_0", "v_1"}
    assert json.loads(read.tokenizer)["model"]["type"] == "BPE"
    assert read.file_bytes == len(data)
    assert_as_litert_sees_it(data)


def test_options_have_names_and_defaults(model: bytes) -> None:
    by_op = {operator.op: operator for operator in graph.read(model).subgraphs[0].operators}
    connected = by_op["FULLY_CONNECTED"].options
    assert connected["fused_activation_function"] == "NONE" and connected["keep_num_dims"] is False
    assert by_op["SOFTMAX"].options == {"beta": 1.0}


# --- the hash


def test_hash_does_not_see_the_layout(model: bytes) -> None:
    again = remodel.edited(model, lambda m: None)
    assert again != model
    assert graph.read(again).sha256 == graph.read(model).sha256
    assert graph.read(again).file_sha256 != graph.read(model).file_sha256


def test_hash_does_not_see_the_label(model: bytes) -> None:
    labelled = remodel.edited(model, lambda m: remodel.metadata(m, "edge.label", b"kitchen"))
    assert graph.read(labelled).metadata["edge.label"] == b"kitchen"
    assert graph.read(labelled).sha256 == graph.read(model).sha256


def change_weight(model: Any) -> None:
    largest = max(model.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    largest.data = np.array(largest.data)
    largest.data[-1] ^= 1


def change_scale(model: Any) -> None:
    tensor = next(t for t in remodel.decode(model).tensors if t.quantization is not None)
    tensor.quantization.scale = np.nextafter(np.array(tensor.quantization.scale, np.float32), np.float32(1))


def change_option(model: Any) -> None:
    remodel.operators(model, "SOFTMAX")[0].builtinOptions.beta = 2.0


def change_version(model: Any) -> None:
    model.operatorCodes[0].version += 1


def change_wire(model: Any) -> None:
    operator = remodel.operators(model, "SUB")[0]
    operator.inputs = operator.inputs[::-1]


def change_tokenizer(model: Any) -> None:
    entry = next(entry for entry in model.metadata if entry.name == b"edge.tokenizer")
    content = bytes(model.buffers[entry.buffer].data)
    remodel.metadata(model, "edge.tokenizer", content + b" ")


def change_name(model: Any) -> None:
    remodel.decode(model).tensors[0].name = "other"


CHANGES = [change_weight, change_scale, change_option, change_version, change_wire, change_tokenizer, change_name]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_hash_sees_the_content(model: bytes, change: Callable[[Any], None]) -> None:
    assert graph.read(remodel.edited(model, change)).sha256 != graph.read(model).sha256


def test_hash_of_an_open_cache_sees_the_content_and_not_the_layout() -> None:
    """There each tensor and operator is hashed by itself, and once where signatures share it."""
    model = convert(tiny.checkpoint(layers=1), open_cache=True)
    again = remodel.edited(model, lambda m: None)  # written anew no two signatures share a table
    assert len(again) > len(model) and graph.read(again).sha256 == graph.read(model).sha256
    hashes = {graph.read(remodel.edited(model, change)).sha256 for change in CHANGES}
    assert len(hashes - {graph.read(model).sha256}) == len(CHANGES)


def test_what_signatures_share_is_read_once() -> None:
    read = graph.read(convert(tiny.checkpoint()))
    decode, prefill = (read.subgraphs[read.signatures[name].subgraph] for name in ("decode", "prefill"))
    shared = {id(tensor) for tensor in decode.tensors} & {id(tensor) for tensor in prefill.tensors}
    assert len(shared) > len(decode.tensors) // 4
    assert all(tensor.index == i for graph in read.subgraphs for i, tensor in enumerate(graph.tensors))


# --- damaged files


def read_or_refuse(data: bytes) -> graph.Graph | None:
    """The graph where it passes, used as all users of a Graph use it; else None. Any other exception is a failure."""
    try:
        read = graph.read(data)
    except BadFile as error:
        assert error.message and "\n" not in error.message and error.message.isprintable()
        return None
    assert len(read.sha256) == 64
    try:
        fuse.program(read)
    except UserError as error:
        assert error.message.isprintable()
    return read


def test_truncated_anywhere_is_refused(small: bytes) -> None:
    assert graph.read(small)
    assert all(read_or_refuse(small[:end]) is None for end in range(len(small) - 16))


def test_truncated_model_is_refused(model: bytes) -> None:
    assert all(read_or_refuse(model[:end]) is None for end in range(0, len(model) - 64, 97))


def test_flipped_bits(small: bytes, model: bytes) -> None:
    """Every outcome but BadFile and a usable graph is a failure."""
    generator = random.Random(1)
    passed = 0
    for data, rounds in ((small, 400), (model, 100)):
        for _ in range(rounds):
            damaged = bytearray(data)
            for _ in range(generator.choice((1, 1, 1, 2, 8))):
                damaged[generator.randrange(len(damaged))] = generator.choice((0, 1, 127, 128, 255))
            passed += read_or_refuse(bytes(damaged)) is not None
    assert 0 < passed < 500  # some hit names and numbers, which may be anything; most hit the structure


@settings(deadline=None)
@given(st.binary(max_size=400))
@example(b"")
@example(b"\0" * 100)
def test_random_bytes_are_refused(data: bytes) -> None:
    assert read_or_refuse(data) is None
    assert read_or_refuse(data[:4] + b"TFL3" + data[4:]) is None


@settings(deadline=None)
@given(st.data())
def test_words_of_any_value(small: bytes, data: st.DataObject) -> None:
    """Offsets and lengths that point anywhere."""
    damaged = bytearray(small)
    at = data.draw(st.integers(0, len(small) // 4 - 1)) * 4
    damaged[at : at + 4] = data.draw(st.integers(0, 2**32 - 1)).to_bytes(4, "little")
    read_or_refuse(bytes(damaged))


def test_a_file_cannot_unfold(small: bytes) -> None:
    """A vector of many references to one large subgraph: small on disk, endless to read."""
    builder_model = remodel.unpack(small)
    data = bytearray(remodel.pack(builder_model))
    reader = graph.schema.Model.GetRootAs(bytes(data))
    subgraph = reader.Subgraphs(0)._tab.Pos
    slot = reader._tab.Pos + reader._tab.Offset(8)  # the field `subgraphs`
    data += b"\0" * (-len(data) % 4)
    vector, count = len(data), 20_000
    data += count.to_bytes(4, "little")
    for index in range(count):
        here = vector + 4 + 4 * index
        data += ((subgraph - here) % 2**32).to_bytes(4, "little")
    data[slot : slot + 4] = (vector - slot).to_bytes(4, "little")
    with pytest.raises(BadFile):
        graph.read(bytes(data))


def test_parts_are_counted() -> None:
    reader = verify.Reader(b"\0" * 100)
    with pytest.raises(verify.Malformed, match="unfolds"):
        for _ in range(100_000):
            reader.spend(1)


def wrong_buffer(model: Any) -> None:
    remodel.decode(model).tensors[3].buffer = len(model.buffers)


def negative_dimension(model: Any) -> None:
    remodel.decode(model).tensors[3].shape = [-5]


def data_of_another_size(model: Any) -> None:
    tensor = next(t for t in remodel.decode(model).tensors if t.quantization is not None)
    tensor.shape = [tensor.shape[0], tensor.shape[1] + 1]


def scale_not_finite(model: Any) -> None:
    tensor = next(t for t in remodel.decode(model).tensors if t.quantization is not None)
    tensor.quantization.scale = np.full(len(tensor.quantization.scale), np.nan, np.float32)


def scale_on_another_axis(model: Any) -> None:
    tensor = next(t for t in remodel.decode(model).tensors if t.quantization is not None and t.shape[0] != t.shape[1])
    tensor.quantization.quantizedDimension = 1


def option_not_finite(model: Any) -> None:
    remodel.operators(model, "SOFTMAX")[0].builtinOptions.beta = float("inf")


def input_out_of_range(model: Any) -> None:
    remodel.rewire(remodel.operators(model, "SOFTMAX")[0], 0, 10**6)


def output_out_of_range(model: Any) -> None:
    remodel.operators(model, "SOFTMAX")[0].outputs = [-1]


def read_before_written(model: Any) -> None:
    operators = remodel.decode(model).operators
    operators[5], operators[6] = operators[6], operators[5]
    operators[0], operators[-1] = operators[-1], operators[0]


def written_twice(model: Any) -> None:
    first, second = remodel.operators(model, "SOFTMAX")[:2]
    second.outputs = first.outputs


def constant_written(model: Any) -> None:
    gather = remodel.operators(model, "GATHER")[0]
    remodel.operators(model, "SOFTMAX")[0].outputs = [gather.inputs[0]]


def unknown_operator(model: Any) -> None:
    model.operatorCodes[0].builtinCode = 30000


def opcode_out_of_range(model: Any) -> None:
    remodel.operators(model, "SOFTMAX")[0].opcodeIndex = 99


def signature_inside(model: Any) -> None:
    inner = remodel.operators(model, "SOFTMAX")[0].outputs[0]
    model.signatureDefs[0].outputs[0].tensorIndex = inner


def signature_of_no_subgraph(model: Any) -> None:
    model.signatureDefs[1].subgraphIndex = 7


def signature_twice(model: Any) -> None:
    model.signatureDefs[1].signatureKey = "decode"


def metadata_twice(model: Any) -> None:
    model.metadata.append(model.metadata[0])


def name_not_text(model: Any) -> None:
    remodel.decode(model).tensors[0].name = b"\xff\xfe"


def no_subgraph(model: Any) -> None:
    model.subgraphs, model.signatureDefs = [], []


def other_schema(model: Any) -> None:
    model.version = 4


FAULTS = [
    wrong_buffer,
    negative_dimension,
    data_of_another_size,
    scale_not_finite,
    scale_on_another_axis,
    option_not_finite,
    input_out_of_range,
    output_out_of_range,
    read_before_written,
    written_twice,
    constant_written,
    unknown_operator,
    opcode_out_of_range,
    signature_inside,
    signature_of_no_subgraph,
    signature_twice,
    metadata_twice,
    name_not_text,
    no_subgraph,
    other_schema,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_faults_are_refused(model: bytes, fault: Callable[[Any], None]) -> None:
    with pytest.raises(BadFile, match="not a valid .tflite"):
        graph.read(remodel.edited(model, fault))


# --- paths


def test_wrong_paths(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.tflite", tmp_path, "a\0b"):
        with pytest.raises(BadFile, match="cannot read") as error:
            graph.read(path)
        assert error.value.hint
    text = tmp_path / "notes.txt"
    text.write_text("not a model")
    with pytest.raises(BadFile, match="not a .tflite file"):
        graph.read(text)


# --- the contract


@pytest.mark.parametrize("version, message", [(b"2.0", "version 2"), (b"0.9", "version 0"), (b"x", "not a version")])
def test_other_contracts_are_refused(model: bytes, version: bytes, message: str) -> None:
    with pytest.raises(BadFile, match=message):
        graph.read(remodel.edited(model, lambda m: remodel.metadata(m, "edge.contract", version)))


def test_a_minor_version_is_read(model: bytes) -> None:
    newer = remodel.edited(model, lambda m: remodel.metadata(m, "edge.contract", b"1.7"))
    assert graph.read(newer).contract == "1.7"


def test_whether_a_file_claims_the_contract(model: bytes, small: bytes) -> None:
    """What decides how a file is run is what reading it whole finds; damage is a BadFile or of no matter to it."""
    assert graph.claims_contract(model) and not graph.claims_contract(small)
    random_ = random.Random(5)
    outcomes = set()
    for _ in range(400):
        data = bytearray(model)
        for _ in range(3):
            data[random_.randrange(2000) - random_.choice([0, 2000])] = random_.randrange(256)
        try:
            outcomes.add(graph.claims_contract(bytes(data)))
        except BadFile:
            outcomes.add(None)
    assert {True, None} <= outcomes


@pytest.mark.parametrize("key", ["edge.contract", "edge.card", "edge.tokenizer"])
def test_metadata_must_be_there(model: bytes, key: str) -> None:
    def drop(m: Any) -> None:
        m.metadata = [entry for entry in m.metadata if entry.name != key.encode()]

    with pytest.raises(BadFile, match=key):
        graph.read(remodel.edited(model, drop))


WRONG_CARDS: list[dict[str, Any]] = [
    {"name": 5},
    {"name": " "},
    {"name": "\ud800"},
    {"licence": None},
    {"source": ["a"]},
    {"quantization": "int3"},
    {"bos_id": 300},
    {"bos_id": True},
    {"bos_id": 1.0},
    {"stop_ids": [-1]},
    {"stop_ids": 2},
    {"stop_ids": [2] * 1000},
    {"template": None},
    {"template": {"before": ""}},
    {"template": {"before": "\0", "after": ""}},
    {"template": {"before": "x" * 5000, "after": ""}},
    {"architecture": {}},
]
WRONG_SHAPES: list[dict[str, Any]] = [
    {"layers": 0},
    {"layers": 3},
    {"layers": 10**9},
    {"vocab_size": 299},
    {"kv_heads": 3},
    {"head_dim": 8.0},
    {"context": 25},
    {"prefill": 15},
    {"prefill": 10**6},
    {"rope_theta": 0},
    {"norm_eps": 1},
    {"norm_eps": "1e-5"},
]


def with_card(model: bytes, changes: dict[str, Any]) -> bytes:
    card = {**graph.read(model).card, **changes}
    return remodel.edited(model, lambda m: remodel.metadata(m, "edge.card", json.dumps(card).encode()))


@pytest.mark.parametrize("changes", WRONG_CARDS, ids=str)
def test_wrong_cards_are_refused(model: bytes, changes: dict[str, Any]) -> None:
    with pytest.raises(BadFile, match="card"):
        graph.read(with_card(model, changes))


@pytest.mark.parametrize("changes", WRONG_SHAPES, ids=str)
def test_wrong_architectures_are_refused(model: bytes, changes: dict[str, Any]) -> None:
    shape = {**graph.read(model).card["architecture"], **changes}
    with pytest.raises(BadFile):
        graph.read(with_card(model, {"architecture": shape}))


JSONS = [b"", b"[]", b"{", b'{"name": NaN}', b"[" * 100_000, b"\xff", b'{"a":' * 9000, b"1" * 70_000]


@pytest.mark.parametrize("content", JSONS, ids=lambda content: repr(content[:8]))
def test_cards_that_are_no_json_are_refused(model: bytes, content: bytes) -> None:
    for key in ("edge.card", "edge.tokenizer"):
        with pytest.raises(BadFile):
            graph.read(remodel.edited(model, lambda m, key=key: remodel.metadata(m, key, content)))


def test_borders_keep_the_contract(model: bytes) -> None:
    def rename(m: Any) -> None:
        next(entry for entry in m.signatureDefs[0].inputs if entry.name == b"k_1").name = "k_one"

    def retype(m: Any) -> None:
        graph_of = remodel.decode(m)
        logits = next(entry.tensorIndex for entry in m.signatureDefs[0].outputs if entry.name == b"logits")
        graph_of.tensors[logits].shape = [1, 300]

    def drop(m: Any) -> None:
        m.signatureDefs = m.signatureDefs[:1]

    for change in (rename, retype, drop):
        with pytest.raises(BadFile, match="decode|prefill"):
            graph.read(remodel.edited(model, change))
