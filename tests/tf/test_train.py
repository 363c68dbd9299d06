"""Training, end to end and small: Keras on TensorFlow computes the decoder, learns, and repeats itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge.make import checkpoints
from edge.make.checkpoints import Architecture, Checkpoint
from edge.make.convert import convert
from edge.tokenizer import from_card
from firmware_tools.errors import BadFile
from tests.oracle import Decoder

pytestmark = pytest.mark.tf

FOLDER = Path(__file__).resolve().parents[2] / "models" / "intent"
RECIPE = """
name = "tiny"
card = "card.json"
seed = 3
[data]
grammar = "grammar.toml"
heldout = "heldout.toml"
vocab_size = 400
pieces_from = 2000
[shape]
dim = 32
hidden_dim = 48
layers = 2
heads = 2
kv_heads = 1
context = 80
[noise]
ramp = 2000
[schedule]
steps = 24
batch = 32
warmup = 4
threads = 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("grammar.toml", "heldout.toml", "card.json"):
        shutil.copy(FOLDER / name, tmp_path / name)
    shutil.copytree(FOLDER / "tasks", tmp_path / "tasks")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    return tmp_path


def test_a_tiny_run_learns_repeats_itself_and_converts(folder: Path) -> None:
    from edge.make.learn.train import train

    losses: list[float] = []
    first = train(folder / "recipe.toml", folder / "a.npz", lambda step, of, loss: losses.append(loss))
    again = train(folder / "recipe.toml", folder / "b.npz", lambda step, of, loss: losses.append(loss))
    assert (folder / "a.npz").read_bytes() == (folder / "b.npz").read_bytes()
    uniform = float(np.log(first.architecture.vocab_size))
    assert losses[0] == losses[1] < uniform  # the mean over the run: it left the state of knowing nothing
    loaded = checkpoints.load(folder / "a.npz")
    assert loaded.card == json.loads((FOLDER / "card.json").read_text())
    assert from_card(loaded.tokenizer, loaded.card).vocab_size == loaded.architecture.vocab_size <= 400
    assert all(np.array_equal(loaded.weights[name], again.weights[name]) for name in again.weights)
    assert len(convert(loaded, "int8")) > 10_000


def test_the_network_is_the_decoder_that_a_checkpoint_describes() -> None:
    import tensorflow as tf

    from edge.make.learn.network import Network, weights

    shape = Architecture(vocab_size=50, dim=16, hidden_dim=20, layers=2, heads=4, kv_heads=2, context=24)
    network = Network(shape)
    random = np.random.default_rng(5)
    tokens = random.integers(1, 50, 12)
    padding = 3  # on the left: it must change nothing
    prompt = np.concatenate([np.zeros(padding), tokens[:7]])[None].astype(np.int32)
    rest = np.concatenate([tokens[7:], [0]])[None].astype(np.int32)
    inputs = (tf.constant(prompt), tf.constant([padding], tf.int32), tf.constant(rest))
    network(inputs)
    for variable in network.trainable_variables:
        variable.assign(random.normal(0.5, 0.4, variable.shape))
    logits = np.asarray(network(inputs))[0]
    decoder = Decoder(Checkpoint(shape, weights(network), b"", {}))
    steps = [decoder.step(int(token), position) for position, token in enumerate(tokens)]
    assert logits.shape == (6, 50)
    np.testing.assert_allclose(logits, np.array(steps[6:]), rtol=1e-4, atol=1e-3)


def test_exact_match_on_the_host_is_what_the_independent_decoder_answers() -> None:
    from edge.make.learn import exact, sets

    checkpoint = checkpoints.load(FOLDER / "checkpoint.npz")
    tokenizer = from_card(checkpoint.tokenizer, checkpoint.card)
    examples = sets.read(FOLDER / "tasks" / "seen.jsonl")[::100]
    given = exact.answers(checkpoint, [prompt for prompt, _ in examples])
    for (prompt, _), answer in zip(examples, given, strict=True):
        decoder, ids = Decoder(checkpoint), tokenizer.prompt(prompt)
        start = len(ids)
        for position in range(checkpoint.architecture.context - 1):
            best = int(decoder.step(ids[position], position).argmax())
            if position + 1 == len(ids):
                if best in tokenizer.stop_ids:
                    break
                ids.append(best)
        assert tokenizer.decode(ids[start:], continuation=True) == answer
    whole, intent = exact.exact_match(checkpoint, examples)
    assert whole == sum(answer == wanted for answer, (_, wanted) in zip(given, examples, strict=True)) / len(examples)
    assert whole <= intent <= 1


def test_a_missing_grammar_or_card_is_one_error(folder: Path) -> None:
    from edge.make.learn.train import train

    for name in ("grammar.toml", "card.json"):
        (folder / name).rename(folder / "away")
        with pytest.raises(BadFile, match=name):
            train(folder / "recipe.toml")
        (folder / "away").rename(folder / name)
