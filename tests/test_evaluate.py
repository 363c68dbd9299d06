"""Accuracy: against an independent decoder, through the host and a virtual board."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge import shares
from edge.make import convert
from edge.make.checkpoints import Checkpoint
from edge.measure import evaluate
from edge.measure.record import Accuracy
from edge.run.target import Running, open_target
from edge.tokenizer import from_card
from firmware_tools.errors import BadFile, UserError
from tests import oracle, tiny

CHECKPOINT = tiny.checkpoint(seed=3)
TEXT = "sit on the tin can and eat a date in rain " * 4


def save(folder: Path, name: str, scheme: str, checkpoint: Checkpoint = CHECKPOINT) -> Path:
    path = folder / f"{name}.tflite"
    convert.save(convert.convert(checkpoint, scheme), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    save(folder, "float32", "float32")
    save(folder, "int8", "int8")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def exact(folder: Path) -> Iterator[Running]:
    with open_target("host", folder / "float32.tflite") as running:
        yield running


def accuracy(running: Running, path: Path, **options: Any) -> Accuracy:
    record = evaluate.evaluate_text(running, path, **options)
    assert record.accuracy is not None
    return record.accuracy


def expected_nats(checkpoint: Checkpoint, ids: list[int], bos: int | None) -> list[float]:
    """The cost of each token that has others before it, teacher-forced by the oracle in pieces of the context."""
    context = checkpoint.architecture.context
    nats = []
    starts = range(0, len(ids), context) if bos is not None else range(0, len(ids) - 1, context)
    for start in starts:
        decoder = oracle.Decoder(checkpoint)
        piece = [bos, *ids[start : start + context]] if bos is not None else ids[start : start + context + 1]
        for position, (token, target) in enumerate(zip(piece, piece[1:], strict=False)):
            nats.append(-float(oracle.log_softmax(decoder.step(token, position))[target]))
    return nats


@pytest.mark.parametrize("bos", [1, None])
def test_perplexity_is_the_oracles(tmp_path: Path, folder: Path, bos: int | None) -> None:
    checkpoint = dataclasses.replace(CHECKPOINT, card={**CHECKPOINT.card, "bos_id": bos})
    with open_target("host", save(tmp_path, "m", "float32", checkpoint)) as running:
        found = accuracy(running, folder / "text.txt")
    ids = from_card(checkpoint.tokenizer, checkpoint.card).encode(TEXT)
    nats = expected_nats(checkpoint, ids, bos)
    assert len(ids) > 2 * checkpoint.architecture.context, "the text must fill more than one piece"
    assert found.tokens == len(nats) == len(ids) - (bos is None)
    assert found.perplexity == pytest.approx(math.exp(np.mean(nats)), rel=1e-4)
    first = 0 if bos is not None else len(from_card(checkpoint.tokenizer, checkpoint.card).decode_bytes(ids[:1]))
    assert found.bytes == len(TEXT.encode()) - first
    assert found.bits_per_byte == pytest.approx(sum(nats) / math.log(2) / found.bytes, rel=1e-4)


def test_divergence_is_the_oracles(exact: Running, folder: Path) -> None:
    """A model with other weights, against the float one: KL and top-1 as the oracle computes them."""
    other = tiny.checkpoint(seed=4)
    with open_target("host", save(folder, "other", "float32", other)) as running:
        found = accuracy(running, folder / "text.txt", reference=exact, limit=40)
    ids = from_card(CHECKPOINT.tokenizer, CHECKPOINT.card).encode(TEXT)[:40]
    truth, logits = [], []
    for start in range(0, 40, CHECKPOINT.architecture.context):
        p, q = oracle.Decoder(CHECKPOINT), oracle.Decoder(other)
        fed = [1, *ids[start : start + CHECKPOINT.architecture.context]][:-1]
        truth += [p.step(token, position) for position, token in enumerate(fed)]
        logits += [q.step(token, position) for position, token in enumerate(fed)]
    assert found.tokens == len(truth) == 40
    assert found.kl == pytest.approx(oracle.divergence(np.array(truth), np.array(logits)), rel=1e-3)
    assert found.top1 == np.mean(np.argmax(truth, axis=1) == np.argmax(logits, axis=1))
    assert found.reference is not None and found.reference.sha256 == exact.model.sha256


def test_a_model_agrees_with_itself(exact: Running, folder: Path) -> None:
    with open_target("host", folder / "float32.tflite") as running:
        found = accuracy(running, folder / "text.txt", reference=exact, limit=30)
    assert found.kl == pytest.approx(0, abs=1e-9) and found.top1 == 1.0


@pytest.mark.parametrize("target", ["host", "virtual-m4"])
def test_int8_is_close_to_float(exact: Running, folder: Path, target: str) -> None:
    with open_target(target, folder / "int8.tflite") as running:
        found = accuracy(running, folder / "text.txt", reference=exact, limit=60)
    assert found.kl is not None and 1e-6 < found.kl < 0.02


def test_reference_of_another_kind_is_refused(exact: Running, folder: Path) -> None:
    other = dataclasses.replace(CHECKPOINT, tokenizer=CHECKPOINT.tokenizer.replace(b'"1.0"', b'"1.0" '))
    with (
        open_target("host", save(folder, "other-tokenizer", "float32", other)) as running,
        pytest.raises(UserError, match="another tokenizer"),
    ):
        accuracy(running, folder / "text.txt", reference=exact)
    shorter = folder / "shorter.tflite"
    convert.save(convert.convert(CHECKPOINT, "float32", 8), shorter)
    with open_target("host", shorter) as reference, pytest.raises(UserError, match="holds 8 positions"):
        accuracy(exact, folder / "text.txt", reference=reference)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\xff", None])
def test_text_that_cannot_be_read(exact: Running, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadFile):
        evaluate.evaluate_text(exact, path)


def greedy(prompt: str, tokens: int) -> str:
    """What the oracle answers."""
    tokenizer, decoder = from_card(CHECKPOINT.tokenizer, CHECKPOINT.card), oracle.Decoder(CHECKPOINT)
    ids, new = tokenizer.prompt(prompt), list[int]()
    while len(new) < tokens:
        for position in range(len(ids) - 1 if new else 0, len(ids)):
            logits = decoder.step(ids[position], position)
        if int(logits.argmax()) in CHECKPOINT.card["stop_ids"]:
            break
        new.append(int(logits.argmax()))
        ids.append(new[-1])
    return tokenizer.decode(new, continuation=True)


def write_task(path: Path, examples: list[tuple[str, str]]) -> Path:
    lines = [json.dumps({"prompt": prompt, "answer": answer}) for prompt, answer in examples]
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return path


def test_exact_match_counts_right_answers(exact: Running, tmp_path: Path) -> None:
    right = [(word, greedy(word, 5)) for word in ("a", "tin", "rain", "sea", "note")]
    task = write_task(tmp_path / "words.jsonl", [*right, *((prompt, answer + "x") for prompt, answer in right[:3])])
    found = evaluate.evaluate(
        exact, text=None, task=str(task), tokens=5, greedy=True, temperature=None, top_p=None, seed=None
    )
    assert found.accuracy is not None
    assert found.accuracy.exact_match == 5 / 8
    assert (found.accuracy.task, found.accuracy.sample_size, found.accuracy.task_size) == ("words", 8, 8)


def test_limit_takes_the_first_of_a_fixed_shuffle(exact: Running, tmp_path: Path) -> None:
    examples = [(word, "x") for word in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]]
    forward = evaluate.read_task(write_task(tmp_path / "1.jsonl", examples))
    backward = evaluate.read_task(write_task(tmp_path / "2.jsonl", examples[::-1]))
    order = evaluate.shuffled(forward)
    assert order == evaluate.shuffled(backward) and order != forward and order != backward
    found = evaluate.evaluate_task(exact, tmp_path / "1.jsonl", name="letters", limit=4, tokens=1)
    assert found.accuracy is not None
    assert (found.accuracy.sample_size, found.accuracy.task_size) == (4, 10)


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"prompt": "a"}', '{"prompt": "a", "answer": 1}', ""])
def test_wrong_task_is_one_error(tmp_path: Path, line: str) -> None:
    path = tmp_path / "task.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(BadFile):
        evaluate.read_task(path)


def test_unknown_task_names_those_there_are(exact: Running) -> None:
    with pytest.raises(UserError, match="neither a file nor a task of tiny"):
        evaluate.evaluate(exact, text=None, task="held-out", greedy=True, temperature=None, top_p=None, seed=None)


@pytest.mark.parametrize(
    ("right", "size", "low", "high"),
    # 0 of 10 and 10 of 10: 1 / (1 + z²/n) by hand; 81 of 263: Newcombe (1998), Statistics in Medicine 17, table I
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)],
)
def test_wilson_interval(right: int, size: int, low: float, high: float) -> None:
    assert shares.wilson(right, size) == pytest.approx((low, high), abs=5e-5)
