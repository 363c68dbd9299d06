"""config.json of Hugging Face's transformers -> what our decoder computes, or the error that names what differs.

Llama, Mistral and Qwen2 compute the same but for biases. A sliding window changes nothing for texts that fit it, so it
limits the context; whatever else changes the computation is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.make.checkpoints import Architecture, RopeScaling
from edge.make.formats.tensor_files import json_object
from firmware_tools.errors import BadFile

# model_type -> the keys that say that matrices have biases (True: always), each with the matrices
KINDS: dict[str, tuple[tuple[str | bool, tuple[str, ...]], ...]] = {
    "llama": (("attention_bias", ("q", "k", "v", "o")), ("mlp_bias", ("gate", "up", "down"))),
    "mistral": (),
    "qwen2": ((True, ("q", "k", "v")),),
}
OTHERS = {
    "qwen3": "it normalizes the queries and keys of each head",
    "mixtral": "it is a mixture of experts",
    "qwen2_moe": "it is a mixture of experts",
    "qwen3_moe": "it is a mixture of experts",
    "gemma": "it scales the embedding and has other norms and activations",
    "gemma2": "it scales the embedding, caps scores and has other norms and activations",
    "gemma3_text": "it scales the embedding and has other norms and activations",
    "phi3": "it keeps q, k and v in one matrix, and scales RoPE by position",
    "smollm3": "some of its layers have no RoPE",
    "granite": "it scales the embedding, residuals, scores and logits",
    "olmo2": "its norms follow the layers",
    "gpt2": "it has LayerNorm and an embedding of positions",
    "gpt_neox": "it has LayerNorm and computes attention and feed-forward side by side",
}
# key -> the values that change nothing, and what others mean
DIFFERENT: dict[str, tuple[tuple[Any, ...], str]] = {
    "hidden_act": (("silu", "swish", None), "another activation"),
    "quantization_config": ((None,), "weights that are quantized already"),
    "compression_config": ((None,), "weights that are quantized already"),
    "partial_rotary_factor": ((1.0, None), "RoPE on a part of each head"),
    "rope_interleaved": ((False, None), "RoPE on neighbours"),
    "num_experts": ((0, 1, None), "a mixture of experts"),
    "num_local_experts": ((0, 1, None), "a mixture of experts"),
    "n_routed_experts": ((0, None), "a mixture of experts"),
    "use_qk_norm": ((False, None), "norms of queries and keys"),
    "no_rope_layers": (([], None), "layers without RoPE"),
    "attn_logit_softcapping": ((None,), "capped scores"),
    "final_logit_softcapping": ((None,), "capped logits"),
    "embedding_multiplier": ((1.0, None), "a scaled embedding"),
    "residual_multiplier": ((1.0, None), "scaled residuals"),
    "attention_multiplier": ((None,), "another scale of scores"),
    "logits_scaling": ((1.0, None), "scaled logits"),
    "is_encoder_decoder": ((False, None), "an encoder"),
    "text_config": ((None,), "more than text"),
}
SIZES = {
    "vocab_size": ("vocab_size", 1 << 20),
    "dim": ("hidden_size", 1 << 16),
    "hidden_dim": ("intermediate_size", 1 << 18),
    "layers": ("num_hidden_layers", 1 << 10),
    "heads": ("num_attention_heads", 1 << 10),
    "context": ("max_position_embeddings", 1 << 30),
}
LONGEST = 1 << 20  # positions of a context
LARGEST_HEAD = 1 << 12
OF_ROPE = {  # kind of scaling -> what it takes
    "linear": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
    "yarn": {"factor", "beta_fast", "beta_slow", "attention_factor", "original_max_position_embeddings"},
}
UNDECIDED = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}  # what every kind may have beside it
HINT = "read are decoders as transformers saves them for Llama, SmolLM, Mistral and Qwen2"


@dataclass(frozen=True)
class Config:
    """biases: matrices of a layer that have one. score_factor: what YaRN multiplies attention scores by."""

    architecture: Architecture
    tied: bool
    biases: tuple[str, ...]
    score_factor: float
    values: Mapping[str, Any]


def read(path: Path) -> Config:
    """A config.json; BadFile where it is none, or where a model by it computes something else."""
    values = json_object(path)
    kind = _check_kind(path, values)
    sizes = {name: _size(path, values, key, most) for name, (key, most) in SIZES.items()}
    sizes["kv_heads"] = _size(path, values, "num_key_value_heads", 1 << 10, sizes["heads"])
    divided = sizes["dim"] // sizes["heads"]
    if values.get("head_dim") is None and sizes["dim"] % sizes["heads"]:
        raise BadFile(f"{path} has {sizes['heads']} heads, which do not divide hidden_size = {sizes['dim']}", HINT)
    head_dim = _size(path, values, "head_dim", LARGEST_HEAD, divided)
    if sizes["heads"] % sizes["kv_heads"] or head_dim % 2:
        what = f"{sizes['heads']} heads for {sizes['kv_heads']} of keys, of size {head_dim}"
        raise BadFile(f"{path} has {what}, which no decoder has", HINT)
    sizes["context"] = min(sizes["context"], LONGEST, _window(path, values))
    theta, scaling, score_factor = _rope(path, values)
    epsilon = _number(path, "rms_norm_eps", values.get("rms_norm_eps", 1e-6), 1.0)
    shape = Architecture(**sizes, rope_theta=theta, norm_eps=epsilon, head_dim=head_dim, rope_scaling=scaling)
    flags = [(flag is True or _flag(path, values, flag), names) for flag, names in KINDS[kind]]  # type: ignore[arg-type]
    biases = tuple(name for given, names in flags if given for name in names)
    return Config(shape, _flag(path, values, "tie_word_embeddings"), biases, score_factor, values)


def _differs(path: Path, what: str) -> BadFile:
    return BadFile(f"{path} is of a model that differs from what `edge` computes: {what}", HINT)


def _check_kind(path: Path, values: Mapping[str, Any]) -> str:
    """The model_type, once nothing is seen that our decoder does otherwise."""
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in KINDS:
        known = OTHERS.get(kind, f"known are {', '.join(KINDS)}") if isinstance(kind, str) else "it says no model_type"
        raise _differs(path, f"model_type is {str(kind)[:40]!a}, {known}")
    for key, (same, what) in DIFFERENT.items():
        value = values.get(key)
        if value not in same:
            raise _differs(path, f"{what} ({key} = {str(value)[:60]!a})")
    own = values.get("auto_map")
    if isinstance(own, dict) and any(key.startswith("AutoModel") for key in own):
        raise _differs(path, "code of its own (auto_map)")
    classes = values.get("architectures")
    if isinstance(classes, list) and classes and not any(str(name).endswith("ForCausalLM") for name in classes):
        raise _differs(path, f"no head for the next token (architectures = {str(classes)[:60]!a})")
    return kind


def _window(path: Path, values: Mapping[str, Any]) -> int:
    """Positions up to which attention sees all that came before."""
    layers = values.get("layer_types")
    if layers is not None:
        strange = set(map(str, layers if isinstance(layers, list) else [layers])) - {
            "full_attention",
            "sliding_attention",
        }
        if strange:
            raise _differs(path, f"layers of the type {min(strange)[:40]!a}")
    used = values.get("use_sliding_window", values.get("model_type") != "qwen2")
    if values.get("sliding_window") is None or used is False:
        return LONGEST
    return _size(path, values, "sliding_window", 1 << 30)


def _rope(path: Path, values: Mapping[str, Any]) -> tuple[float, RopeScaling | None, float]:
    """theta, how frequencies are scaled, and what attention scores are multiplied by."""
    key = "rope_parameters" if values.get("rope_parameters") is not None else "rope_scaling"
    given = values.get(key)
    given = {} if given is None else given
    if not isinstance(given, dict):
        raise BadFile(f"{path} has a {key} that is no object", HINT)
    if any(isinstance(value, dict) for value in given.values()):
        raise _differs(path, f"another RoPE by layer ({key})")
    theta = _number(path, "rope_theta", given.get("rope_theta", values.get("rope_theta", 10000.0)), 1e12)
    kind = given.get("rope_type", given.get("type", "default"))
    if given.get("partial_rotary_factor") not in (None, 1.0):
        raise _differs(path, f"RoPE on a part of each head ({key})")
    if kind == "default":
        return theta, None, 1.0
    if not isinstance(kind, str) or kind not in OF_ROPE:
        raise _differs(path, f"RoPE is scaled as {str(kind)[:40]!a}; known are {', '.join(OF_ROPE)}")
    strange = {name for name, value in given.items() if value is not None} - OF_ROPE[kind] - UNDECIDED
    strange -= {"original_max_position_embeddings"} | ({"truncate"} if given.get("truncate") is True else set())
    if strange:
        raise _differs(path, f"{key} has {min(map(str, strange))[:40]!a}")
    return theta, *_scaling(path, kind, given, values)


def _scaling(path: Path, kind: str, given: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[RopeScaling, float]:
    def number(name: str, default: Any = None) -> float:
        value = given.get(name)
        return _number(path, name, default if value is None else value, 1e12)

    factor, scores = number("factor"), 1.0
    scaling = RopeScaling(kind, factor)
    if kind != "linear":
        low, high = ("low_freq_factor", "high_freq_factor") if kind == "llama3" else ("beta_slow", "beta_fast")
        turns = (number(low), number(high)) if kind == "llama3" else (number(low, 1.0), number(high, 32.0))
        original = number("original_max_position_embeddings", values.get("max_position_embeddings"))
        scaling = RopeScaling(kind, factor, *turns, int(original))
    if kind == "yarn":
        scores = number("attention_factor", 0.1 * math.log(max(factor, 1.0)) + 1.0) ** 2  # of q and of k
    if not scaling.is_sound():
        raise BadFile(f"{path} scales RoPE by numbers out of range: {str(dict(given))[:200]!a}", HINT)
    return scaling, scores


def _size(path: Path, values: Mapping[str, Any], key: str, most: int, default: int | None = None) -> int:
    value = values.get(key)
    value = default if value is None else value
    if type(value) is not int or not 1 <= value <= most:
        raise BadFile(f"{path} has {key} = {str(value)[:40]!a}, no number from 1 to {most}", HINT)
    return value


def _number(path: Path, key: str, value: Any, most: float) -> float:
    if type(value) not in (int, float) or not 0 < value < most:
        raise BadFile(f"{path} has {key} = {str(value)[:40]!a}, no number above 0 and below {most:g}", HINT)
    return float(value)


def _flag(path: Path, values: Mapping[str, Any], key: str) -> bool:
    value = values.get(key)
    if value not in (True, False, None):
        raise BadFile(f"{path} has {key} = {str(value)[:40]!a}, neither true nor false", HINT)
    return bool(value)
