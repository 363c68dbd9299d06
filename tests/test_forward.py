"""The float forward pass over whole texts, and the texts that calibration takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge.make import calibrate
from edge.make.forward import INPUT_OF, divergence, forward
from firmware_tools.errors import BadFile
from tests.oracle import Decoder
from tests.tiny import checkpoint


def test_it_computes_what_the_oracle_does() -> None:
    model = checkpoint(seed=3, tied=False)
    ids = np.random.default_rng(1).integers(0, model.architecture.vocab_size, (2, 9))
    logits = forward(model.architecture, model.weights, ids)
    for text, rows in zip(ids, logits, strict=True):
        oracle = Decoder(model)
        truth = np.array([oracle.step(int(token), position) for position, token in enumerate(text)])
        assert np.abs(rows - truth).max() < 1e-4 * np.abs(truth).max()
        assert divergence(truth, rows) < 1e-9


def test_a_cache_continues_a_text() -> None:
    model = checkpoint(seed=4)
    ids = np.random.default_rng(2).integers(0, model.architecture.vocab_size, (3, 8))
    whole = forward(model.architecture, model.weights, ids)
    cache: dict[str, np.ndarray] = {}
    parts = [forward(model.architecture, model.weights, part, cache=cache) for part in np.split(ids, [5, 6], axis=1)]
    assert np.allclose(np.concatenate(parts, axis=1), whole, atol=1e-5)


def test_an_observer_sees_every_input_of_a_matrix() -> None:
    model = checkpoint(seed=5)
    shape, seen = model.architecture, {}
    forward(shape, model.weights, np.zeros((1, 4), int), lambda name, activation: seen.setdefault(name, activation))
    columns = {"qkv": shape.dim, "o": shape.dim, "gate_up": shape.dim, "down": shape.hidden_dim}
    for layer in range(shape.layers):
        for matrix, name in INPUT_OF.items():
            assert seen[f"{layer}.{name}"].shape == (1, 4, columns[matrix])
    assert seen["0.probabilities"].shape == (1, shape.heads, 4, 4)
    assert np.allclose(seen["0.probabilities"].sum(axis=-1), 1)
    assert np.isneginf(seen["0.scores"][0, 0, 0, 1:]).all()


def test_own_samples_follow_the_seed_and_the_model() -> None:
    model = checkpoint(seed=6)
    first, again, other = (calibrate.calibration(model, "samples", seed, 600) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first.ids, again.ids, strict=True))
    assert not np.array_equal(first.ids[0], other.ids[0])
    assert first.tokens >= 600
    # what the model says is likelier to it than chance would be
    shape = model.architecture
    logits = forward(shape, model.weights, np.array(first.ids)[:, :-1])
    mean = np.take_along_axis(logits, np.array(first.ids)[:, 1:, None], axis=2).mean() - logits.mean()
    assert mean > 0.1


def test_texts_and_tasks(tmp_path: Path) -> None:
    model = checkpoint(seed=7)
    text, task = tmp_path / "a.txt", tmp_path / "a.jsonl"
    text.write_text("hello world, this is a text. " * 40)
    task.write_text("\n".join(json.dumps({"prompt": f"say {i}", "answer": f"{i}"}) for i in range(30)))
    for path in (text, task):
        found = calibrate.calibration(model, str(path), 3, 200)
        assert 200 <= found.tokens < 200 + calibrate.TEXT
        assert path.name in found.source
        again = calibrate.calibration(model, str(path), 3, 200)
        assert all(np.array_equal(a, b) for a, b in zip(found.ids, again.ids, strict=True))


@pytest.mark.parametrize("content", ["", " \n\n"])
@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_an_empty_text_is_one_clear_error(tmp_path: Path, content: str, suffix: str) -> None:
    path = tmp_path / f"empty{suffix}"
    path.write_text(content)
    with pytest.raises(BadFile, match="empty|no examples"):
        calibrate.calibration(checkpoint(), str(path))
