"""Folders as transformers saves them: equality with the oracle, and one error for each thing that is not right."""

from __future__ import annotations

import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lite
import numpy as np
import oracle
import pytest
import tiny
from safetensors.numpy import save_file

from edge.make import checkpoints
from edge.make.checkpoints import Checkpoint, RopeScaling
from edge.make.convert import convert
from firmware_tools.errors import BadFile, UserError

THEIRS = {
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
KINDS, SHARDS = ("F32", "F16", "BF16", "F32", "F16", "F32", "BF16", "F16"), (1, 3, 2, 1, 1, 3, 2, 1)
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
LLAMA3_SCALING = RopeScaling("llama3", 8.0, 1.0, 4.0, 16)
# what config.json says, and the model that it means
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "llama": ({"head_dim": 16, "rope_theta": 500.0}, {"head_dim": 16, "rope_theta": 500.0, "tied": False}),
    "smollm": ({"tie_word_embeddings": True, "head_dim": None, "rope_scaling": None}, {"tied": True}),
    "llama 3": (
        {"rope_scaling": {"rope_type": "llama3", **LLAMA3}, "rms_norm_eps": 1e-3},
        {"rope_scaling": LLAMA3_SCALING, "norm_eps": 1e-3, "tied": False},
    ),
    "newer keys": (
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 700.0, **LLAMA3}, "tie_word_embeddings": True},
        {"rope_scaling": LLAMA3_SCALING, "rope_theta": 700.0},
    ),
    "linear": (
        {"rope_scaling": {"type": "linear", "factor": 2}},
        {"rope_scaling": RopeScaling("linear", 2.0), "tied": False},
    ),
    "every bias": (
        {"attention_bias": True, "mlp_bias": True},
        {"biases": "q k v o gate up down", "tied": False},
    ),
    "qwen2": (
        {"model_type": "qwen2", "tie_word_embeddings": True, "use_sliding_window": False, "sliding_window": 4},
        {"biases": "q k v"},
    ),
    "mistral": ({"model_type": "mistral", "sliding_window": 20}, {"context": 20, "tied": False}),
}


def config_of(checkpoint: Checkpoint, **changes: Any) -> dict[str, Any]:
    shape = checkpoint.architecture
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": shape.vocab_size,
        "hidden_size": shape.dim,
        "intermediate_size": shape.hidden_dim,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": tiny.SHAPE.context,
        "rms_norm_eps": 1e-5,
        "eos_token_id": 2,
        **changes,
    }


def named(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """The weights under the names that transformers gives them."""
    names = {"embedding": "model.embed_tokens.weight", "final_norm": "model.norm.weight", "head": "lm_head.weight"}
    found = {}
    for ours, weight in checkpoint.weights.items():
        layer, _, name = ours.partition(".")
        theirs = f"model.layers.{layer}.{THEIRS.get(name.removesuffix('_bias'))}."
        found[names.get(ours) or theirs + ("bias" if name.endswith("_bias") else "weight")] = weight
    return found


def raw(tensors: dict[str, np.ndarray], kind: str) -> bytes:
    """A file of the format by its specification alone, for what the package does not write."""
    header, at = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(values.tobytes() for values in tensors.values())


def halved(values: np.ndarray) -> np.ndarray:
    """float32 cut to bfloat16, as its 16 bits."""
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def save(folder: Path, checkpoint: Checkpoint, kind: str = "F32", shards: int = 1, **config: Any) -> Path:
    """A folder as save_pretrained leaves it."""
    folder.mkdir(exist_ok=True)
    tensors = named(checkpoint)
    names = (
        [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)] if shards > 1 else ["model.safetensors"]
    )
    for i, name in enumerate(names):
        part = dict(list(sorted(tensors.items()))[i::shards])
        if kind == "BF16":
            (folder / name).write_bytes(raw({key: halved(values) for key, values in part.items()}, kind))
        else:
            save_file(
                {key: values.astype({"F32": "f4", "F16": "f2"}[kind]) for key, values in part.items()}, folder / name
            )
    if shards > 1:
        where = {key: names[i % shards] for i, key in enumerate(sorted(tensors))}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / "config.json").write_text(json.dumps(config_of(checkpoint, **config)))
    (folder / "tokenizer.json").write_bytes(checkpoint.tokenizer)
    return folder


def rounded(checkpoint: Checkpoint, kind: str) -> Checkpoint:
    """The same with the weights that a file of this kind holds."""
    if kind == "F16":
        weights = {name: weight.astype(np.float16).astype(np.float32) for name, weight in checkpoint.weights.items()}
    elif kind == "BF16":
        weights = {
            name: (weight.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
            for name, weight in checkpoint.weights.items()
        }
    else:
        weights = dict(checkpoint.weights)
    return replace(checkpoint, weights=weights)


# --- what is read


@pytest.mark.parametrize(("name", "kind", "shards"), list(zip(MODELS, KINDS, SHARDS, strict=True)))
def test_a_folder_computes_what_the_oracle_does(tmp_path: Path, name: str, kind: str, shards: int) -> None:
    config, model = MODELS[name]
    truth = rounded(tiny.checkpoint(seed=3, **model), kind)
    read = checkpoints.load(save(tmp_path / "model", truth, kind, shards, **config))
    assert read.architecture == truth.architecture
    assert set(read.weights) == set(truth.weights) and len(read.weights) == len(truth.weights)
    assert all(np.array_equal(read.weights[key], weight) for key, weight in truth.weights.items())
    assert read.tokenizer == truth.tokenizer
    lite_model = lite.Model(convert(read, "float32"), "xnnpack")
    tokens, logits = oracle.sample(truth, 12, seed=1)
    for position, token in enumerate(tokens):
        np.testing.assert_allclose(lite_model.decode(token, position), logits[position], atol=2e-4)


def test_yarn_multiplies_scores_by_the_square_of_its_factor(tmp_path: Path) -> None:
    """Both queries and keys are multiplied; here it is the queries alone, twice."""
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
    truth = tiny.checkpoint(biases="q k v", head_dim=16)
    read = checkpoints.load(
        save(tmp_path, truth, model_type="qwen2", head_dim=16, rope_parameters=scaling, tie_word_embeddings=True)
    )
    assert read.architecture.rope_scaling == RopeScaling("yarn", 4.0, 1.0, 32.0, 64)
    factor = (0.1 * np.log(4.0) + 1) ** 2
    for name in ("1.q", "1.q_bias"):
        np.testing.assert_allclose(read.weights[name], factor * truth.weights[name], rtol=1e-6)
    assert np.array_equal(read.weights["1.k"], truth.weights["1.k"])


@pytest.mark.parametrize("given", [".", "model-00002-of-00003.safetensors", "model.safetensors.index.json"])
def test_any_file_of_the_folder_will_do(tmp_path: Path, given: str) -> None:
    truth = tiny.checkpoint()
    save(tmp_path, truth, shards=3, tie_word_embeddings=True)
    assert set(checkpoints.load(tmp_path / given).weights) == set(truth.weights)


def test_a_file_of_another_name(tmp_path: Path) -> None:
    save(tmp_path, tiny.checkpoint(), tie_word_embeddings=True)
    (tmp_path / "model.safetensors").rename(tmp_path / "weights.safetensors")
    for given in (tmp_path, tmp_path / "weights.safetensors"):
        assert checkpoints.load(given).architecture == tiny.SHAPE


def test_a_tied_head_that_was_saved_too_is_not_read(tmp_path: Path) -> None:
    save(tmp_path, tiny.checkpoint(tied=False), tie_word_embeddings=True)
    assert "head" not in checkpoints.load(tmp_path).weights


def test_frequencies_that_older_versions_saved_are_passed_over(tmp_path: Path) -> None:
    save(tmp_path, tiny.checkpoint(), tie_word_embeddings=True)
    path = tmp_path / "model.safetensors"
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.zeros(4, np.float32)}
    save_file({**named(tiny.checkpoint()), **extra}, path)
    checkpoints.load(tmp_path)


def test_rows_that_no_token_has_are_left_out(tmp_path: Path) -> None:
    padded, small = tiny.checkpoint(tied=False, vocab_size=310), tiny.checkpoint(tied=False)
    save(tmp_path, padded)
    (tmp_path / "tokenizer.json").write_bytes(small.tokenizer)
    read = checkpoints.load(tmp_path)
    assert read.architecture.vocab_size == 300
    for name in ("embedding", "head"):
        assert np.array_equal(read.weights[name], padded.weights[name][:300])
    assert "without the last 10 rows of the embedding" in read.card["source"]
    convert(read)


def test_the_card(tmp_path: Path) -> None:
    folder = save(tmp_path / "Some-Model", tiny.checkpoint(), tie_word_embeddings=True)
    (folder / "README.md").write_text("---\ntags: [x]\nlicense: apache-2.0\n---\n# Some model\nlicense: none\n")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 2]}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "</s>"}, "bos_token": "<s>"}))
    card = checkpoints.load(folder).card
    assert (card["name"], card["licence"]) == ("Some-Model", "apache-2.0")
    assert (card["bos_id"], card["stop_ids"]) == (None, [7, 2])
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>", "add_bos_token": True}))
    assert checkpoints.load(folder).card["bos_id"] == 1
    document = json.loads((folder / "tokenizer.json").read_text())
    first = [{"SpecialToken": {"id": "</s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    template = {"type": "TemplateProcessing", "single": first, "pair": [], "special_tokens": {}}
    for processor in (template, {"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]}):
        (folder / "tokenizer.json").write_text(json.dumps({**document, "post_processor": processor}))
        assert checkpoints.load(folder).card["bos_id"] == 2


# --- what is refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "qwen3"}, "normalizes the queries and keys of each head"),
        ({"model_type": "mixtral"}, "mixture of experts"),
        ({"model_type": "brand_new"}, "known are llama, mistral, qwen2"),
        ({"model_type": None}, "it says no model_type"),
        ({"model_type": ["llama"]}, "it says no model_type"),
        ({"hidden_act": "gelu"}, "another activation .hidden_act = 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "weights that are quantized already"),
        ({"partial_rotary_factor": 0.5}, "RoPE on a part of each head"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "RoPE on a part of each head"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "another RoPE by layer"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "RoPE is scaled as 'dynamic'; known are linear, llama3"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0, "mscale": 0.7}}, "rope_scaling has 'mscale'"),
        ({"rope_scaling": {"type": "linear", "factor": 0.5}}, "numbers out of range"),
        ({"rope_scaling": {"type": "llama3", **LLAMA3, "high_freq_factor": 1.0}}, "numbers out of range"),
        ({"rope_scaling": {"type": "llama3", "factor": 8.0}}, "low_freq_factor = 'None'"),
        ({"rope_scaling": "linear"}, "rope_scaling that is no object"),
        ({"num_local_experts": 8}, "a mixture of experts"),
        ({"layer_types": ["full_attention", "linear_attention"]}, "layers of the type 'linear_attention'"),
        ({"auto_map": {"AutoModelForCausalLM": "modeling.My"}}, "code of its own"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "no head for the next token"),
        ({"text_config": {}}, "more than text"),
        ({"hidden_size": "32"}, "hidden_size = '32', no number from 1 to 65536"),
        ({"hidden_size": 10**30}, "hidden_size"),
        ({"num_hidden_layers": 10**6}, "num_hidden_layers"),
        ({"num_attention_heads": 5}, "5 heads, which do not divide hidden_size"),
        ({"num_key_value_heads": 3}, "4 heads for 3 of keys"),
        ({"head_dim": 7}, "of size 7"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps"),
        ({"rope_theta": 0}, "rope_theta"),
        ({"tie_word_embeddings": "yes"}, "neither true nor false"),
        ({"tie_word_embeddings": False}, "no tensor lm_head.weight"),
        ({"num_hidden_layers": 3}, "no tensor model.layers.2"),
        ({"num_hidden_layers": 1}, "the tensor 'model.layers.1.*for which its config.json has no place"),
        ({"intermediate_size": 48}, r"gate_proj.weight in .* is \[44, 32\], and by config.json \[48, 32\]"),
        ({"attention_bias": True}, "no tensor model.layers.0.self_attn.q_proj.bias"),
        ({"eos_token_id": 300}, "ends or begins texts with the token '300', of 300"),
        ({"eos_token_id": ["a"]}, "ends or begins texts with the token 'a'"),
        ({"eos_token_id": [2, [2]]}, "ends or begins texts with the token '.2.'"),
        ({"eos_token_id": {"id": 2}}, "ends or begins texts with the token"),
    ],
)
def test_a_model_that_differs_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    save(tmp_path, tiny.checkpoint(), **{"tie_word_embeddings": True, **change})
    with pytest.raises(BadFile, match=words):
        checkpoints.load(tmp_path)


def edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def index(**files: str) -> Callable[[Path], object]:
    """The index with some tensors said to be elsewhere."""

    def change(data: bytes) -> bytes:
        held = json.loads(data)
        held["weight_map"] |= {name.replace("__", "."): file for name, file in files.items()}
        return json.dumps(held).encode()

    return edit("model.safetensors.index.json", change)


SHARD = "model-00001-of-00002.safetensors"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / SHARD).unlink(), f"names the file {SHARD}, which is not there"),
        (edit(SHARD, lambda data: data[:-1]), "damaged or cut off: .*not fully covered"),
        (edit(SHARD, lambda data: data + b"\0"), "damaged or cut off"),
        (edit(SHARD, lambda data: data[:5]), "damaged or cut off"),
        (edit(SHARD, lambda data: b""), "damaged or cut off"),
        (edit(SHARD, lambda data: struct.pack("<Q", 1 << 62) + data[8:]), "damaged or cut off: .*header too large"),
        (edit(SHARD, lambda data: struct.pack("<Q", 50_000) + data[8:]), "damaged or cut off"),
        (edit(SHARD, lambda data: data.replace(b"F32", b"I32")), "is I32; read are F32, F16, BF16"),
        (edit(SHARD, lambda data: raw({"a": np.zeros(3, np.float32)}, "F32")), "no tensor "),
        (edit(SHARD, lambda data: raw({"model.norm.weight": np.zeros(32, np.float32)}, "F32")), "is in .* and in "),
        (index(model__norm__weight="../model.safetensors"), "names the file .*which is no .safetensors beside it"),
        (index(model__norm__weight="C:model.safetensors"), "which is no .safetensors beside it"),
        (index(model__norm__weight="..\\model.safetensors"), "which is no .safetensors beside it"),
        (index(model__norm__weight="/etc/passwd"), "which is no .safetensors beside it"),
        (edit("model.safetensors.index.json", lambda data: b"{}"), "has no weight_map"),
        (edit("model.safetensors.index.json", lambda data: b"[" * 100_000), "is not JSON"),
        (edit("config.json", lambda data: b"[]"), "is not a JSON object"),
        (edit("config.json", lambda data: data[:-1]), "is not JSON"),
        (edit("generation_config.json", lambda data: b"{"), "is not JSON"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (edit("tokenizer.json", lambda data: b"{}"), "the tokenizer has no model"),
        (
            edit("tokenizer.json", lambda data: tiny.checkpoint(vocab_size=301).tokenizer),
            "301 tokens, and the embedding",
        ),
        (edit("tokenizer.json", lambda data: tiny.checkpoint(vocab_size=270).tokenizer), "only 270 tokens for the 300"),
    ],
)
def test_a_damaged_folder_is_one_error(tmp_path: Path, damage: Callable[[Path], object], words: str) -> None:
    save(tmp_path, tiny.checkpoint(), shards=2, tie_word_embeddings=True)
    (tmp_path / "generation_config.json").write_text("{}")
    damage(tmp_path)
    with pytest.raises(BadFile, match=words):
        checkpoints.load(tmp_path)


def test_several_files_and_no_index(tmp_path: Path) -> None:
    save(tmp_path, tiny.checkpoint(), shards=2, tie_word_embeddings=True)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(BadFile, match="2 files .* no model.safetensors.index.json"):
        checkpoints.load(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    spoiled = tiny.checkpoint()
    spoiled.weights["1.up"][2, 3] = value
    read = checkpoints.load(save(tmp_path, spoiled, "F16", tie_word_embeddings=True))
    with pytest.raises(BadFile, match=r"1\.up.*not finite"):
        convert(read)


def test_a_file_that_shrinks_after_it_was_opened(tmp_path: Path) -> None:
    read = checkpoints.load(save(tmp_path, tiny.checkpoint(), tie_word_embeddings=True))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(BadFile, match="changed while it was read"):
        read.weights["embedding"]


# --- pickles


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "pytorch_model.bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_refused_unread(tmp_path: Path, name: str, zipped: bool) -> None:
    data = pickle.dumps(Trap(tmp_path / "sprung"), protocol=2)
    path = tmp_path / name
    path.write_bytes(data)
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model/data.pkl", data)
    with pytest.raises(BadFile, match="is a Python pickle, which is not read") as caught:
        checkpoints.load(path)
    assert "save_pretrained" in caught.value.hint and "safe_serialization=True" in caught.value.hint
    assert not (tmp_path / "sprung").exists()


def test_a_folder_of_pickles_is_refused_with_the_line_that_helps(tmp_path: Path) -> None:
    save(tmp_path, tiny.checkpoint(), tie_word_embeddings=True)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(BadFile, match="as a Python pickle .pytorch_model.bin.") as caught:
        checkpoints.load(tmp_path)
    assert "safe_serialization=True" in caught.value.hint


def test_a_llama2c_checkpoint_that_begins_like_a_pickle(tmp_path: Path) -> None:
    """Its dim is 640: the bytes 0x80, 2, 0, 0."""
    (tmp_path / "stories.bin").write_bytes(struct.pack("<7i", 640, 100, 1, 8, 8, 300, 64))
    with pytest.raises(UserError, match=r"stories.bin is cut off"):
        checkpoints.load(tmp_path / "stories.bin")
