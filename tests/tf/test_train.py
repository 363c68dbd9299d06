"""Training, end to end and small: Keras on TensorFlow computes the decoder, learns, and repeats itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
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


TWICE = """
import hashlib, json
from pathlib import Path
from edge.make.learn.train import train
losses = []
for name in ("a.npz", "b.npz"):
    train(Path("recipe.toml"), Path(name), lambda step, of, loss: losses.append(loss))
print(json.dumps([losses, *(hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in ("a.npz", "b.npz"))]))
"""


def test_a_tiny_run_learns_repeats_itself_and_converts(folder: Path) -> None:
    # In a process of its own, as `edge train` is: TensorFlow keeps the number of threads that it first computed with.
    done = subprocess.run([sys.executable, "-c", TWICE], cwd=folder, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    losses, first, again = json.loads(done.stdout.splitlines()[-1])
    assert first == again
    loaded = checkpoints.load(folder / "a.npz")
    uniform = float(np.log(loaded.architecture.vocab_size))
    assert losses[0] == losses[1] < uniform  # the mean over the run: it left the state of knowing nothing
    assert loaded.card == json.loads((FOLDER / "card.json").read_text())
    assert from_card(loaded.tokenizer, loaded.card).vocab_size == loaded.architecture.vocab_size <= 400
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
