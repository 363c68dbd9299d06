"""Trains a command model by its recipe: grammar → tokenizer → Keras → Checkpoint.

Needs the extra `train` (Keras on TensorFlow); with it, on the same machine and versions, a run repeats itself bit for
bit. The loss is the cross-entropy of the answers' tokens alone.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.make.checkpoints import Architecture, Checkpoint
from edge.make.learn import grammar, pieces, sets, snips
from edge.make.learn.batches import batches
from edge.make.learn.recipe import Recipe, Schedule, load
from edge.make.learn.sets import Example
from edge.tokenizer import Tokenizer, from_card
from firmware_tools.errors import BadFile, MissingTool

if TYPE_CHECKING:
    from edge.make.learn.network import Network

Progress = Callable[[int, int, float], None]  # step, of steps, mean loss since the last call
CARD_HINT = "a card is a JSON object; see models/intent/card.json"
REPORT = 50  # steps between two calls of progress


def train(recipe_path: Path, output: Path | None = None, progress: Progress | None = None) -> Checkpoint:
    """Trains by the recipe and returns the checkpoint; output, where given, is written as an .npz.

    Raises BadFile for a wrong recipe or grammar, MissingTool without the extra `train`.
    """
    recipe = load(recipe_path)
    _configure(recipe)
    source = examples(recipe)
    card = _card(recipe)
    head = list(itertools.islice(source, recipe.data.pieces_from))
    document = pieces.train((text for example in head for text in example), recipe.data.vocab_size)
    tokenizer = from_card(document, card)
    shape = _architecture(recipe, tokenizer)
    network = fit(recipe, shape, tokenizer, itertools.chain(head, source), progress)
    from edge.make.learn.network import weights

    checkpoint = Checkpoint(shape, weights(network), document, card)
    if output is not None:
        from edge.make.checkpoints import npz

        npz.save(checkpoint, output)
    return checkpoint


def examples(recipe: Recipe) -> Iterator[Example]:
    """The training examples of a recipe, without end, the same each time."""
    if recipe.data.snips:
        yield from snips.stream(recipe.beside(recipe.data.snips), recipe.noise, recipe.seed)
    commands = grammar.load(recipe.beside(recipe.data.grammar), recipe.beside(recipe.data.heldout))
    for sentence in sets.Stream(commands, recipe.noise, recipe.seed, test_prompts(recipe)):
        yield sentence.prompt, sentence.answer


def test_prompts(recipe: Recipe) -> frozenset[str]:
    """The prompts of the recipe's test sets, which are never trained on."""
    files = (recipe.beside(recipe.tests.folder) / f"{name}.jsonl" for name in sets.NAMES)
    return frozenset(prompt for path in files for prompt, _ in sets.read(path))


def fit(
    recipe: Recipe, shape: Architecture, tokenizer: Tokenizer, source: Iterable[Example], progress: Progress | None
) -> Network:
    """Trains a new network on the examples, for as many steps as the recipe says."""
    from edge.make.learn.network import Network

    plan = recipe.schedule
    network = Network(shape, plan.dropout)
    update = _update(network, plan)
    feed = batches(tokenizer, source, plan.batch, shape.context, recipe.seed, recipe.data.cut)
    losses: list[float] = []
    for step, batch in enumerate(itertools.islice(feed, plan.steps), 1):
        losses.append(float(update(batch.prompt, batch.begins, batch.answer, batch.weight)))
        if progress is not None and (step % REPORT == 0 or step == plan.steps):
            progress(step, plan.steps, sum(losses) / len(losses))
            losses.clear()
    network.optimizer.finalize_variable_values(network.trainable_variables)  # the moving average becomes the weights
    return network


def _update(network: Any, plan: Schedule) -> Callable[..., Any]:
    """One step of AdamW as a compiled function of a batch's arrays; returns the loss."""
    import keras
    import tensorflow as tf

    rate = keras.optimizers.schedules.CosineDecay(
        1e-5, plan.steps - plan.warmup, alpha=0.01, warmup_target=plan.rate, warmup_steps=plan.warmup
    )
    optimizer = keras.optimizers.AdamW(
        rate,
        weight_decay=plan.weight_decay,
        beta_2=0.98,
        global_clipnorm=plan.clip,
        use_ema=True,
        ema_momentum=plan.ema,
    )
    network.optimizer = optimizer
    loss_of = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=plan.smoothing, reduction="none")
    ids = tf.TensorSpec([None, None], tf.int32)

    def update(prompt: Any, begins: Any, answer: Any, weight: Any) -> Any:
        with tf.GradientTape() as tape:
            logits = network((prompt, begins, answer), training=True)
            losses = loss_of(tf.one_hot(answer, network.shape.vocab_size), logits)
            loss = tf.reduce_sum(losses * weight) / tf.reduce_sum(weight)
        optimizer.apply(tape.gradient(loss, network.trainable_variables), network.trainable_variables)
        return loss

    example = (tf.ones([1, 8], tf.int32), tf.zeros([1], tf.int32), tf.ones([1, 8], tf.int32))
    network(example)
    optimizer.build(network.trainable_variables)
    signature = [ids, tf.TensorSpec([None], tf.int32), ids, tf.TensorSpec([None, None], tf.float32)]
    compiled: Callable[..., Any] = tf.function(update, input_signature=signature)
    return compiled


def _configure(recipe: Recipe) -> None:
    """Seeds, determinism and threads, before TensorFlow computes anything."""
    try:
        import keras
        import tensorflow as tf
    except ImportError as error:
        raise MissingTool("training needs Keras on TensorFlow", "pip install 'edge-tinyml[train]'") from error
    keras.utils.set_random_seed(recipe.seed)
    tf.config.experimental.enable_op_determinism()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(recipe.schedule.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        pass  # a second run in one process keeps the threads of the first


def _architecture(recipe: Recipe, tokenizer: Tokenizer) -> Architecture:
    shape = recipe.shape
    return Architecture(
        vocab_size=tokenizer.vocab_size,
        dim=shape.dim,
        hidden_dim=shape.hidden_dim,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        context=shape.context,
    )


def _card(recipe: Recipe) -> dict[str, Any]:
    """The card that the recipe names."""
    path = recipe.beside(recipe.card)
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadFile(f"{path} is not a card: {error}", CARD_HINT) from error
    if not isinstance(card, dict):
        raise BadFile(f"{path} is not a card", CARD_HINT)
    return card


def parameters(checkpoint: Checkpoint) -> int:
    """How many numbers the model has."""
    return sum(weight.size for weight in checkpoint.weights.values())


def timed(recipe_path: Path, output: Path, progress: Progress | None = None) -> tuple[Checkpoint, float]:
    """As train, with the seconds it took."""
    start = time.perf_counter()
    checkpoint = train(recipe_path, output, progress)
    return checkpoint, time.perf_counter() - start
