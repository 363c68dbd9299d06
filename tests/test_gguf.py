"""GGUF files in every type, written by the package `gguf`: what is read of them, and what is said of wrong ones."""

from __future__ import annotations

import json
import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf_files
import numpy as np
import pytest
import tiny
import tokenizers
from gguf import GGMLQuantizationType as Type
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lite import Model
from oracle import sample
from tokenizers import models, pre_tokenizers, trainers

from edge.make import checkpoints
from edge.make.checkpoints import Checkpoint, RopeScaling
from edge.make.convert import convert
from edge.make.formats import gguf_file, gguf_tokenizer
from edge.tokenizer import Tokenizer, from_card
from firmware_tools import vocabulary
from firmware_tools.errors import BadFile

QUANTIZED = [Type.F32, Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0]
WITHOUT_WRITER = [Type.Q2_K, Type.Q3_K, Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.IQ4_XS, Type.IQ4_NL, Type.IQ2_XXS]


def source(**changes: Any) -> Checkpoint:
    """A tiny checkpoint whose rows are whole blocks of 32."""
    return tiny.checkpoint(**{"hidden_dim": 64, **changes})


# ------------------------------------------------------------------------------------------------------------ weights


@pytest.mark.parametrize("kind", QUANTIZED, ids=lambda kind: kind.name)
def test_weights_are_those_of_the_file(kind: Type, tmp_path: Path) -> None:
    written = source()
    read = checkpoints.load(gguf_files.write(tmp_path / "tiny.gguf", written, kind))
    assert read.architecture == written.architecture
    assert set(read.weights) == set(written.weights)
    for name, weight in written.weights.items():
        expected = gguf_files.rounded(weight, kind) if weight.ndim == 2 else weight
        assert read.weights[name].dtype == np.float32
        np.testing.assert_array_equal(read.weights[name], expected, err_msg=name)


@pytest.mark.parametrize("kind", WITHOUT_WRITER, ids=lambda kind: kind.name)
def test_types_that_the_package_only_reads(kind: Type, tmp_path: Path) -> None:
    written = source(dim=256, hidden_dim=256, layers=1)
    raw, expected = {}, {}
    for index, (name, weight) in enumerate(sorted(written.weights.items())):
        if weight.ndim == 2:
            raw[name], expected[name] = gguf_files.blocks(kind, *weight.shape, seed=index)
    read = checkpoints.load(gguf_files.write(tmp_path / "tiny.gguf", written, kind, raw=raw))
    for name, numbers in expected.items():
        turned = name.endswith((".q", ".k"))
        found = gguf_files.interleaved(read.weights[name], 64) if turned else read.weights[name]
        np.testing.assert_array_equal(found, numbers, err_msg=name)


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_computes_what_its_source_does(tied: bool, tmp_path: Path) -> None:
    """From the file by LiteRT against the oracle on the checkpoint that it was written from."""
    written = source(tied=tied, rope_theta=500.0, norm_eps=1e-3)
    tokens, truth = sample(written, written.architecture.context, seed=3)
    model = Model(convert(checkpoints.load(gguf_files.write(tmp_path / "tiny.gguf", written)), "float32"), "xnnpack")
    for position, token in enumerate(tokens):
        np.testing.assert_allclose(model.decode(token, position), truth[position], atol=2e-4)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_biases_heads_of_any_size_and_scaled_rope(architecture: str, tmp_path: Path) -> None:
    plain = source(head_dim=12)
    random = np.random.default_rng(5)
    sizes = {f"{layer}.{part}_bias": plain.weights[f"{layer}.{part}"].shape[:1] for layer in (0, 1) for part in "qkv"}
    biases = {name: random.standard_normal(size, np.float32) for name, size in sizes.items()}
    written = replace(plain, weights={**plain.weights, **biases})
    scaling = {f"{architecture}.rope.scaling.type": "linear", f"{architecture}.rope.scaling.factor": 2.0}
    path = gguf_files.write(tmp_path / "tiny.gguf", written, changes=scaling, architecture=architecture)
    read = checkpoints.load(path)
    assert read.architecture == replace(written.architecture, rope_scaling=RopeScaling("linear", 2.0))
    assert set(read.weights) == set(written.weights)
    for name, weight in written.weights.items():
        np.testing.assert_array_equal(read.weights[name], weight, err_msg=name)


def test_the_scaled_rope_of_llama_3_is_known_by_its_factors(tmp_path: Path) -> None:
    """Factors as llama.cpp's convert script writes them: 1 for short waves, `factor` for long ones, a ramp between."""
    written = source(dim=64, heads=1, kv_heads=1, rope_theta=500000.0)
    waves = 2 * np.pi * 500000.0 ** (np.arange(0, 64, 2) / 64)
    smooth = np.clip((8192 / waves - 1) / (4 - 1), 0, 1)
    factors = (1 / ((1 - smooth) / 32 + smooth)).astype(np.float32)
    path = gguf_files.write(tmp_path / "tiny.gguf", written, tensors={"rope_freqs.weight": factors})
    found = checkpoints.load(path).architecture.rope_scaling
    assert found == RopeScaling("llama3", 32.0, 1.0, 4.0, 8192)


def test_a_matrix_larger_than_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = source()
    path = gguf_files.write(tmp_path / "tiny.gguf", written, Type.Q8_0)
    whole = dict(checkpoints.load(path).weights)
    monkeypatch.setattr(gguf_file, "CHUNK", 96)
    for name, weight in checkpoints.load(path).weights.items():
        np.testing.assert_array_equal(weight, whole[name])


def test_the_card_says_where_it_comes_from(tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "tiny.gguf", source(), Type.Q8_0, {"general.license": "mit"})
    card = checkpoints.load(path).card
    assert (card["name"], card["licence"], card["bos_id"], card["stop_ids"]) == ("tiny", "mit", 1, [2])
    assert "tiny.gguf (Q8_0), sha256 " in card["source"]


# ---------------------------------------------------------------------------------------------------------- tokenizers


@given(st.text(alphabet="eariot nslcudp,.é漢\n", max_size=40))
@settings(max_examples=100, deadline=None)
def test_sentence_piece_encodes_as_its_source(text: str) -> None:
    written = source()
    values = {key: array(value) for key, value in gguf_files.sentence_piece(written).items()}
    read, expected = Tokenizer(gguf_tokenizer.tokenizer(values, "x")), Tokenizer(written.tokenizer)
    assert read.vocabulary.can_encode, read.vocabulary.reason
    assert read.encode(text) == expected.encode(text)
    assert read.decode(read.encode(text)) == text


def array(value: Any) -> Any:
    """A value as a GGUF file gives it."""
    return np.array(value) if isinstance(value, list) and not isinstance(value[0], str) else value


def byte_level(pre: str, tokenizer: tokenizers.Tokenizer) -> dict[str, Any]:
    model = json.loads(tokenizer.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([3 if token == "<|end|>" else 1 for token in tokens], np.int32),
        "tokenizer.ggml.merges": [" ".join(merge) for merge in model["merges"]],
        "tokenizer.ggml.eos_token_id": tokens.index("<|end|>"),
    }


TEXT = "It's 12345 o'clock, we'll say: 3.14159 isn't 22/7!\n\n  def f(x):\n    return x**2 + 'é' # 漢字 ünï  \t\n" * 3
PRE_TOKENIZERS = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
}


@pytest.mark.parametrize("pre", PRE_TOKENIZERS)
@given(text=st.one_of(st.text(max_size=60), st.text(alphabet=TEXT, max_size=60)))
@settings(max_examples=100, deadline=None)
def test_byte_level_encodes_as_its_source(pre: str, text: str) -> None:
    """Against the library's own pre-tokenizers, which are not made of the expressions here."""
    trained = trained_on_text(pre)
    values = byte_level(pre, trained)
    read = from_card(gguf_tokenizer.tokenizer(values, "x"), {"stop_ids": gguf_tokenizer.ends(values, "x")[1]})
    assert read.encode(text) == trained.encode(text).ids
    assert read.decode(read.encode(text)) == text
    assert read.decode(read.stop_ids) == "" and len(read.stop_ids) == 1


def trained_on_text(pre: str) -> tokenizers.Tokenizer:
    if pre not in TRAINED:
        made = tokenizers.Tokenizer(models.BPE())
        made.pre_tokenizer = PRE_TOKENIZERS[pre]
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=330, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
        )
        made.train_from_iterator([TEXT], trainer)
        made.encode_special_tokens = True
        TRAINED[pre] = made
    return TRAINED[pre]


TRAINED: dict[str, tokenizers.Tokenizer] = {}


@pytest.mark.parametrize(
    ("pre", "pieces"),
    [
        ("gpt-2", ["It", "'s", " 12345", " O", "'", "CLOCK", ",", " we", "'ll", "  ", " pay", "!", "\n", "\n", "end"]),
        ("smollm", ["It", "'s", " ", *"12345", " O", "'", "CLOCK", ",", " we", "'ll", "  ", " pay", "!", "\n", "\n"]),
        ("llama-bpe", ["It", "'s", " ", "123", "45", " O", "'CLOCK", ",", " we", "'ll", "  ", " pay", "!\n\n", "end"]),
        ("qwen2", ["It", "'s", " ", *"12345", " O", "'CLOCK", ",", " we", "'ll", "  ", " pay", "!\n\n", "end"]),
        ("default", ["It", "'", "s", " ", "123", "45", " O", "'", "CLOCK", ",", " we", "'", "ll", "  ", " pay", "!"]),
    ],
)
def test_text_is_split_as_its_name_says(pre: str, pieces: list[str]) -> None:
    text = "It's 12345 O'CLOCK, we'll   pay!\n\nend"
    step = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(tokenizers.Regex(rule), "isolated") for rule in gguf_tokenizer.SPLITS[pre]]
    )
    found = [piece for piece, _ in step.pre_tokenize_str(text)]
    assert found[: len(pieces)] == pieces


def test_a_word_that_is_a_token_is_not_merged() -> None:
    """llama-bpe: `ignore_merges`, and BOS where the file does not say otherwise."""
    trained = trained_on_text("gpt-2")
    values = byte_level("llama-bpe", trained) | {"tokenizer.ggml.bos_token_id": 0}
    values["tokenizer.ggml.merges"] = []
    whole = next(token for token in values["tokenizer.ggml.tokens"] if token.isalpha() and len(token) > 2)
    read = Tokenizer(gguf_tokenizer.tokenizer(values, "x"))
    assert read.encode(whole) == [values["tokenizer.ggml.tokens"].index(whole)]
    assert gguf_tokenizer.ends(values, "x")[0] == 0
    assert gguf_tokenizer.ends(values | {"tokenizer.ggml.add_bos_token": False}, "x")[0] is None


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"general.architecture": "gemma"}, "architecture 'gemma'"),
        ({"llama.expert_count": 8}, "mixture of experts"),
        ({"llama.attention.sliding_window": 512}, "sliding window"),
        ({"llama.rope.scaling.type": "yarn"}, "scales RoPE by 'yarn'"),
        ({"llama.attn_logit_softcapping": 50.0}, "capped attention scores"),
        ({"llama.rope.dimension_count": 4}, "rope.dimension_count = 4"),
        ({"llama.attention.key_length": 16}, "rope.dimension_count = 8"),
        ({"llama.attention.key_length": 9, "llama.rope.dimension_count": None}, "4 heads and 2 of keys"),
        ({"llama.attention.head_count": 3}, "3 heads"),
        ({"llama.attention.head_count": [4, 4]}, "head_count ="),
        ({"llama.block_count": None}, "block_count = 'None'"),
        ({"llama.block_count": 0}, "block_count = '0'"),
        ({"llama.block_count": 3}, r"no tensor blk\.2"),
        ({"llama.block_count": 1}, r"tensor 'blk\.1"),
        ({"llama.feed_forward_length": 32}, "ffn_gate.weight of 64 x 32, where 32 x 32"),
        ({"llama.attention.layer_norm_rms_epsilon": None}, "epsilon"),
        ({"llama.rope.freq_base": float("inf")}, "freq_base = 'inf'"),
        ({"tokenizer.ggml.model": "t5"}, "'t5'"),
        ({"tokenizer.ggml.tokens": ["a", "b", "c"]}, "each of its 3 tokens"),
        ({"tokenizer.ggml.tokens": None}, "no list of tokens"),
        ({"tokenizer.ggml.scores": [0.0]}, "score for each"),
        ({"tokenizer.ggml.bos_token_id": 300}, "bos_token_id = 300"),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "klingon"}, "'klingon', which is not known"),
        ({"tokenizer.ggml.model": "gpt2"}, "no merges"),
        ({"general.alignment": 12}, "alignment"),
    ],
)
def test_what_differs_is_named(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    alignment = changes.pop("general.alignment", None)
    gguf_files.write(path, source(), changes=changes)
    if alignment:
        with_alignment(path, alignment)
    with pytest.raises(BadFile, match=words) as error:
        checkpoints.load(path)
    assert error.value.hint


def with_alignment(path: Path, alignment: int) -> None:
    """Adds the pair general.alignment to a file: one pair more, at the front."""
    data = path.read_bytes()
    tensors, pairs = struct.unpack_from("<QQ", data, 8)
    key = b"general.alignment"
    pair = struct.pack("<Q", len(key)) + key + struct.pack("<II", 4, alignment)
    path.write_bytes(data[:8] + struct.pack("<QQ", tensors, pairs + 1) + pair + data[24:])


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"blk.0.attn_q_norm.weight": np.ones(8, np.float32)}, "attn_q_norm"),
        ({"blk.0.ffn_gate_exps.weight": np.ones((2, 64, 32), np.float32)}, "ffn_gate_exps"),
        ({"rope_freqs.weight": np.arange(1, 5, dtype=np.float32)}, "other than Llama 3's"),
        ({"blk.1.ffn_down.weight": None}, "no tensor blk.1.ffn_down"),
        ({"token_embd.weight": None}, "no embedding"),
        ({"token_embd.weight": np.ones((299, 32), np.float32)}, "300 tokens and an embedding of 299"),
        ({"blk.1.attn_norm.weight": np.ones((1, 32), np.float32)}, "attn_norm.weight of 1 x 32, where 32"),
    ],
)
def test_tensors_that_do_not_belong(tensors: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "tiny.gguf", source(), tensors=tensors)
    with pytest.raises(BadFile, match=words) as error:
        checkpoints.load(path)
    assert error.value.hint


def test_values_that_are_not_finite(tmp_path: Path) -> None:
    written = source()
    spoiled = written.weights["1.up"].copy()
    spoiled[2, 3] = np.inf
    path = gguf_files.write(
        tmp_path / "x.gguf", replace(written, weights={**written.weights, "1.up": spoiled}), Type.F16
    )
    with pytest.raises(BadFile, match=r"1\.up.*not finite"):
        convert(checkpoints.load(path))


def test_any_cut_is_one_clear_error(tmp_path: Path) -> None:
    data = gguf_files.write(tmp_path / "whole.gguf", source(layers=1), Type.Q8_0).read_bytes()
    path = tmp_path / "cut.gguf"
    for size in [*range(0, 400), *range(400, len(data) - 64, 257), len(data) - 64]:
        path.write_bytes(data[:size])
        with pytest.raises(BadFile) as error:
            checkpoints.load(path)
        assert ("is cut off" in error.value.message or size < 4) and error.value.hint, size


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = gguf_files.write(tmp_path / "tiny.gguf", source())
    read = checkpoints.load(path)
    path.write_bytes(path.read_bytes()[:-4096])
    with pytest.raises(BadFile, match="changed while it was read"):
        dict(read.weights)


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gguf_files.write(tmp_path_factory.mktemp("gguf") / "whole.gguf", source(layers=1), Type.Q8_0)


@given(data=st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_found_or_does_no_harm(whole_file: Path, data: st.DataObject) -> None:
    """Any bytes changed: a model, or a BadFile, and never more memory than some times the file."""
    content = bytearray(whole_file.read_bytes())
    head = content.index(b"token_embd.weight") + 1500
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, head))
        some = data.draw(st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\x01", b"\x80", struct.pack("<Q", 1 << 40)]))
        content[at : at + len(some)] = some
    path = whole_file.with_name("damaged.gguf")
    path.write_bytes(content)
    tracemalloc.start()
    try:
        checkpoints.load(path)
    except BadFile as error:
        assert error.hint
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 30 * len(content) + (4 << 20)


@pytest.mark.parametrize("offset", [8, 16])
def test_counts_that_no_file_holds_cost_nothing(offset: int, whole_file: Path, tmp_path: Path) -> None:
    content = bytearray(whole_file.read_bytes())
    struct.pack_into("<Q", content, offset, 1 << 62)
    path = tmp_path / "damaged.gguf"
    path.write_bytes(content)
    with pytest.raises(BadFile, match="cut off"):
        checkpoints.load(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a GGUF"),
        (b"GGUF", "cut off"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "architecture 'None'"),
    ],
)
def test_what_is_not_a_model(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(BadFile, match=words):
        checkpoints.load(path)


def test_a_file_is_recognised_by_its_beginning(whole_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(whole_file.read_bytes())
    assert len(vocabulary.read(checkpoints.load(path).tokenizer).pieces) == 300
