"""Measures tests/tokens/ids.json: token ids of llama.cpp for the texts of tests/tokens.

    python tests/bench/llama_ids.py [--train] [--smollm2 SmolLM2-135M-Instruct.Q4_1.gguf]

needs llama-cpp-python, which builds from source in minutes, and the extra `gguf`. Without --smollm2 the ids of that
model's own vocabulary stay as they are. --train makes the small vocabularies anew, which changes all ids.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp
import tokenizers
from gguf import GGUFWriter
from tokenizers import models, pre_tokenizers, trainers

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gguf_files  # noqa: E402
import tokens  # noqa: E402
from tokens.texts import TEXTS, TURN  # noqa: E402

SIZE = 900
SHORT = [text for text in TEXTS if len(text) < 2000]


def byte_level() -> dict[str, Any]:
    """A vocabulary as GPT-2's, words cut loosely, so that every way to split meets merges across its cuts."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(r"\s*\S{1,6}|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=list(tokens.CONTROL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(SHORT, trainer)
    model = json.loads(made.to_str())["model"]
    names = sorted(model["vocab"], key=model["vocab"].__getitem__)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return {"tokens": names, "merges": merges}


def sentence_piece() -> dict[str, Any]:
    """A vocabulary of SentencePiece's kind: characters and merges of them, scored by their rank."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=SIZE, special_tokens=special, limit_alphabet=200, show_progress=False)
    made.train_from_iterator([text for text in SHORT if text.isprintable()], trainer)
    model = json.loads(made.to_str())["model"]
    return {"tokens": sorted(model["vocab"], key=model["vocab"].__getitem__)}


def measured(path: Path) -> list[Any]:
    """The ids of every text by llama.cpp, no text read as a special token."""
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    return [tokens.kept(model.tokenize(text.encode(), add_bos=False, special=False)) for text in TEXTS]


def measured_turns(path: Path) -> list[Any]:
    """The ids of every text that spells no special token in a chat's turn, whose special tokens are read as such."""
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    turns = ("".join(TURN).replace("{}", text) for text in tokens.SPELLS_NONE)
    return [tokens.kept(model.tokenize(turn.encode(), add_bos=False, special=True)) for turn in turns]


def written(folder: Path, pairs: dict[str, Any]) -> Path:
    path = folder / "vocabulary.gguf"
    writer = GGUFWriter(path, "llama")
    for key, value in pairs.items():
        gguf_files.add(writer, key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def save(name: str, content: Any) -> None:
    lines = json.dumps(content, ensure_ascii=True, indent=0 if name == "ids" else None)
    (tokens.FOLDER / f"{name}.json").write_text(compact(lines) + "\n", encoding="ascii")


def compact(text: str) -> str:
    """A list of numbers on one line."""
    return re.sub(r"\[\s*([\d,\s]*?)\s*\]", lambda match: "[" + re.sub(r"\s+", " ", match[1]) + "]", text)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--smollm2", type=Path)
    options = parser.parse_args(arguments)
    if options.train:
        save("byte_level", byte_level())
        save("sentence_piece", sentence_piece())
    before = tokens.read("ids") if (tokens.FOLDER / "ids.json").is_file() else {}
    ids = {"llama-cpp-python": llama_cpp.__version__}
    ids |= {name: before.get(name) for name in ("SmolLM2", "turns SmolLM2")}
    with tempfile.TemporaryDirectory() as name:
        for kind, way in tokens.KINDS:
            ids[f"{kind} {way}"] = measured(written(Path(name), tokens.values(kind, way)))
        smollm = written(Path(name), tokens.values("byte_level", "smollm"))
        ids["turns byte_level smollm"] = measured_turns(smollm)
    if options.smollm2:
        ids["SmolLM2"], ids["turns SmolLM2"] = measured(options.smollm2), measured_turns(options.smollm2)
    save("ids", ids)


if __name__ == "__main__":
    main()
