"""Folders as transformers saves them, and the Hub has them: safetensors files, config.json, tokenizer.json.

SOURCE is the folder, its index, or a .safetensors file in it. Weights are float32, float16 or bfloat16, whole or in
shards; make/llama_config.py says which models. A tokenizer may have fewer tokens than the embedding has rows (padding,
up to a sixteenth): the rows that no token has are left out, so that no text holds what cannot be written. bos_id is the
token that the tokenizer itself puts before a text, stop_ids are the ends that generation_config.json and the
tokenizer's settings name, and the one that ends an answer in the chat template, which becomes pieces of the card
(make/formats/chat_template.py).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge.make.checkpoints import Architecture, Checkpoint, bias_shapes, expected_shapes
from edge.make.formats import chat_template, llama_config, tensor_files
from edge.make.formats.llama_config import Config
from edge.make.formats.tensor_files import KINDS, Part, Stored, Weights, json_object
from firmware_tools import vocabulary
from firmware_tools.errors import BadFile

SUFFIXES = (tensor_files.SUFFIX,)
WHOLE = {"embedding": "model.embed_tokens.weight", "final_norm": "model.norm.weight", "head": "lm_head.weight"}
OF_LAYER = {
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    **{name: f"self_attn.{name}_proj" for name in "qkvo"},
    **{name: f"mlp.{name}_proj" for name in ("gate", "up", "down")},
}
UNUSED = ".rotary_emb.inv_freq"  # RoPE's frequencies, which older versions saved
PICKLED = ("*.bin", "*.pt", "*.pth")
MOST_PADDING = 16  # of so many rows of an embedding one may be without a token
MOST_STOP_IDS = 32  # what a card holds
HINT = "give the folder that save_pretrained(…, safe_serialization=True) of transformers wrote"


def recognises(path: Path) -> bool:
    """Whether it is a file of the format or an index of such, or a folder with the format's files."""
    if path.is_dir():
        return (path / "config.json").is_file() or any(path.glob(f"*{tensor_files.SUFFIX}"))
    return path.is_file() and (path.suffix in SUFFIXES or path.name == tensor_files.INDEX)


def load(path: Path, tokenizer: Path | None = None) -> Checkpoint:
    """Reads what the files say of themselves, the weights later, one by one; tokenizer replaces the one beside them."""
    folder = path if path.is_dir() else path.parent
    config = llama_config.read(_needed(folder, "config.json"))
    _check_is_safe(folder)
    paths = tensor_files.files(path)
    tensors = tensor_files.tensors(paths)
    shape = config.architecture
    names = _names(config)
    _check_tensors(folder, config, names, tensors)
    data = _bytes(_tokenizer(folder) if tokenizer is None else tokenizer)
    count = len(vocabulary.read(data).pieces)
    _check_vocabulary(folder, shape, count)
    parts = {
        ours: Part(
            tensors[theirs],
            count if ours in ("embedding", "head") else None,
            config.score_factor if ours.endswith((".q", ".q_bias")) else 1.0,
        )
        for ours, theirs in names.items()
    }
    card = _card(folder, paths, config, data, count)
    settings = _optional(folder / "tokenizer_config.json")
    chat = chat_template.taken_over(
        _chat_template(folder, settings),
        _special_names(_optional(folder / "special_tokens_map.json") | settings),
        vocabulary.added_tokens(data),
        card["bos_id"],
    )
    card |= {**chat.keys, "stop_ids": chat.ends(card["stop_ids"])[:MOST_STOP_IDS]}
    notes = () if chat.note is None else (chat.note,)
    return Checkpoint(replace(shape, vocab_size=count), Weights(parts), data, card, notes=notes)


def _needed(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise BadFile(f"{folder} has no {name}", HINT)
    return folder / name


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadFile(f"cannot read {path}: {error.strerror}", "give a tokenizer.json with --tokenizer") from error


def _check_is_safe(folder: Path) -> None:
    """BadFile where the weights are there as pickles alone, which run programs when they are read."""
    if any(folder.glob(f"*{tensor_files.SUFFIX}")) or (folder / tensor_files.INDEX).is_file():
        return
    pickles = sorted(path.name for pattern in PICKLED for path in folder.glob(pattern))
    if pickles:
        raise BadFile(
            f"{folder} has its weights as a Python pickle ({pickles[0]}), which is not read: it may run any program",
            "from transformers import AutoModelForCausalLM as M; "
            f"M.from_pretrained({str(folder)!r}).save_pretrained('NEW', safe_serialization=True)",
        )


def _names(config: Config) -> dict[str, str]:
    """The weights of a Checkpoint -> the tensors of the files."""
    shape = config.architecture
    names = {}
    for ours in (*expected_shapes(shape, config.tied), *bias_shapes(shape)):
        if ours in WHOLE:
            names[ours] = WHOLE[ours]
            continue
        layer, _, name = ours.partition(".")
        matrix = name.removesuffix("_bias")
        if name == matrix or matrix in config.biases:
            names[ours] = f"model.layers.{layer}.{OF_LAYER[matrix]}.{'weight' if name == matrix else 'bias'}"
    return names


def _check_tensors(folder: Path, config: Config, names: Mapping[str, str], tensors: Mapping[str, Stored]) -> None:
    """Every tensor there, in its shape and of a type that is read, and none beside them."""
    sizes = expected_shapes(config.architecture, config.tied) | bias_shapes(config.architecture)
    for ours, theirs in names.items():
        stored = tensors.get(theirs)
        if stored is None:
            raise BadFile(f"{folder} has no tensor {theirs}, which config.json makes needed", HINT)
        if stored.kind not in KINDS:
            raise BadFile(f"{theirs} in {stored.path} is {stored.kind}; read are {', '.join(KINDS)}", HINT)
        if stored.shape != sizes[ours]:
            found, right = list(stored.shape), list(sizes[ours])
            raise BadFile(f"{theirs} in {stored.path} is {found}, and by config.json {right}", HINT)
    known = {*names.values(), *([WHOLE["head"]] if config.tied else [])}
    strange = sorted(name for name in tensors if name not in known and not name.endswith(UNUSED))
    if strange:
        what = f"{folder} has the tensor {strange[0][:100]!a}, for which its config.json has no place"
        raise BadFile(what, llama_config.HINT)


def _check_vocabulary(folder: Path, shape: Architecture, count: int) -> None:
    if count > shape.vocab_size:
        what = f"the tokenizer has {count} tokens, and the embedding of {folder} {shape.vocab_size} rows"
        raise BadFile(what, "give the tokenizer that the model was trained with")
    if shape.vocab_size - count > shape.vocab_size // MOST_PADDING:
        what = f"the tokenizer has only {count} tokens for the {shape.vocab_size} rows of the embedding of {folder}"
        raise BadFile(what, "that is more than padding: give the tokenizer that the model was trained with")


def _tokenizer(folder: Path) -> Path:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise BadFile(
            f"{folder} has no tokenizer.json",
            "AutoTokenizer.from_pretrained(…).save_pretrained(…) of transformers makes one; --tokenizer gives another",
        )
    return path


# --- the card


def _card(folder: Path, paths: tuple[Path, ...], config: Config, tokenizer: bytes, count: int) -> dict[str, Any]:
    digest = hashlib.sha256()
    for path in paths:
        for part in _parts(path):
            digest.update(part)
    files = paths[0].name if len(paths) == 1 else f"{len(paths)} shards"
    source = f"safetensors folder {folder.resolve().name[:200]}, sha256 {digest.hexdigest()} of {files}"
    unused = config.architecture.vocab_size - count
    if unused:
        source += f"; without the last {unused} rows of the embedding, which no token has"
    document = json.loads(tokenizer)
    settings = _optional(folder / "tokenizer_config.json")
    bos, stops = _first(document, settings), _ends(folder, config, document, settings)
    for id in (*([] if bos is None else [bos]), *stops):
        if type(id) is not int or not 0 <= id < count:
            raise BadFile(f"{folder} ends or begins texts with the token {str(id)[:20]!a}, of {count}", HINT)
    return {
        "name": folder.resolve().name[:200],
        "licence": _licence(folder / "README.md"),
        "source": source,
        "bos_id": bos,
        "stop_ids": stops,
    }


def _parts(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while part := file.read(1 << 22):
                yield part
    except OSError as error:
        raise BadFile(f"cannot read {path}: {error.strerror}", HINT) from error


def _optional(path: Path) -> dict[str, Any]:
    return json_object(path) if path.is_file() else {}


def _first(document: Mapping[str, Any], settings: Mapping[str, Any]) -> int | None:
    """The token that the tokenizer puts before a text: by its post-processor, else by its settings."""
    processor = document.get("post_processor")
    steps = processor.get("processors") if isinstance(processor, dict) else None
    for step in [processor, *(steps if isinstance(steps, list) else [])]:
        if isinstance(step, dict) and step.get("type") == "TemplateProcessing":
            single = step.get("single")
            before = single[0] if isinstance(single, list) and single and isinstance(single[0], dict) else {}
            special = before.get("SpecialToken")
            return _id(document, special.get("id")) if isinstance(special, dict) else None
    return _id(document, settings.get("bos_token")) if settings.get("add_bos_token") is True else None


def _ends(folder: Path, config: Config, document: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Any]:
    """The tokens that end a text, as generation is told, else as the model says; and the tokenizer's own."""
    named = _optional(folder / "generation_config.json").get("eos_token_id")
    named = config.values.get("eos_token_id") if named is None else named
    ends = [*(named if isinstance(named, list) else [named]), _id(document, settings.get("eos_token"))]
    return [id for at, id in enumerate(ends) if id is not None and id not in ends[:at]]


def _id(document: Mapping[str, Any], token: Any) -> int | None:
    """The id of a token by its text, or by a description that holds it."""
    text = token.get("content") if isinstance(token, dict) else token
    for added in document.get("added_tokens") or ():
        if added.get("content") == text:
            return int(added["id"])
    vocab = document["model"]["vocab"]
    return int(vocab[text]) if isinstance(text, str) and text in vocab else None


def _chat_template(folder: Path, settings: Mapping[str, Any]) -> object:
    """The source of the chat template: a file of its own in newer folders; None where there is none."""
    path = folder / "chat_template.jinja"
    return _bytes(path).decode("utf-8", "replace") if path.is_file() else settings.get("chat_template")


def _special_names(settings: Mapping[str, Any]) -> dict[str, str]:
    """`bos_token` and its like, each by its text or by a description that holds it."""
    found = {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        token = settings.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str):
            found[name] = text
    return found


def _licence(readme: Path) -> str:
    """What the head of a model's page on the Hub says."""
    try:
        with readme.open(encoding="utf-8", errors="replace") as file:
            head = file.read(1 << 14)
    except OSError:
        head = ""
    found = re.search(r"\A---\n(?:.*\n)*?license:[ \t]*([\w.+-]{1,60})[ \t]*\n(?:.*\n)*?---", head)
    return found[1] if found else "not stated by the checkpoint"
