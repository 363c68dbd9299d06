"""Trains a command model by its recipe: grammar → tokenizer → Keras → Checkpoint.

Needs the extra `train` (Keras on TensorFlow). The loss is the cross-entropy of the answers' tokens alone. The seed
fixes every sentence, every batch and the first weights. With `threads = 1` a run then repeats itself bit for bit on the
same machine and versions, in a process where TensorFlow computed nothing before (it keeps the number of threads that it
began with); with more, TensorFlow may round sums otherwise from run to run, and the weights drift apart.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.make.checkpoints import Architecture, Checkpoint
from edge.make.learn import grammar, sets, snips
from edge.make.learn.batches import batches
from edge.make.learn.recipe import Recipe, Schedule, load
from edge.make.learn.sets import Example
from edge.tokenizer import Tokenizer, from_card
from edge.tokenizer import train as tokenizer_train
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
    return follow(load(recipe_path), output, progress)


def follow(recipe: Recipe, output: Path | None = None, progress: Progress | None = None) -> Checkpoint:
    """As train, for a recipe that is already read."""
    _configure(recipe)
    source = examples(recipe)
    card = _card(recipe)
    head = list(itertools.islice(source, recipe.data.pieces_from))
    texts = (text for example in head for text in example)
    document = tokenizer_train(texts, recipe.data.vocab_size, word_mark=False)
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
    """One step of Muon as a compiled function of a batch's arrays; returns the loss.

    A batch is computed in shards that depend on each other only in the sum of their gradients, one a thread.
    """
    import keras
    import tensorflow as tf

    optimizer = _optimizer(plan)
    network.optimizer = optimizer
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")

    def shard(total: Any, prompt: Any, begins: Any, answer: Any, weight: Any) -> tuple[Any, list[Any]]:
        with tf.GradientTape() as tape:
            logits = network((prompt, begins, answer), training=True)
            loss = tf.reduce_sum(loss_of(answer, logits) * weight) / total
        return loss, tape.gradient(loss, network.trainable_variables)

    def update(*arrays: Any) -> Any:
        total, last = tf.reduce_sum(arrays[-1]), plan.threads - 1
        cuts = [tf.shape(arrays[0])[0] * index // plan.threads for index in range(plan.threads + 1)]
        parts = [shard(total, *(array[cuts[i] : cuts[i + 1]] for array in arrays)) for i in range(last + 1)]
        gradients = [tf.add_n(list(of_one)) for of_one in zip(*(found for _, found in parts), strict=True)]
        optimizer.apply(gradients, network.trainable_variables)
        return tf.add_n([loss for loss, _ in parts])

    network((tf.ones([1, 8], tf.int32), tf.zeros([1], tf.int32), tf.ones([1, 8], tf.int32)))
    optimizer.build(network.trainable_variables)
    ids, numbers = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, None], tf.float32)
    compiled: Callable[..., Any] = tf.function(
        update, input_signature=[ids, tf.TensorSpec([None], tf.int32), ids, numbers]
    )
    return compiled


def _optimizer(plan: Schedule) -> Any:
    """Muon (Jordan 2024) for the matrices, AdamW for embedding and gains; the weights kept are a moving average."""
    import keras

    rate = keras.optimizers.schedules.CosineDecay(
        1e-5, plan.steps - plan.warmup, alpha=0.01, warmup_target=plan.rate, warmup_steps=plan.warmup
    )
    return keras.optimizers.Muon(
        rate,
        adam_lr_ratio=plan.adam_ratio,
        weight_decay=plan.weight_decay,
        adam_weight_decay=0.0,
        use_ema=True,
        ema_momentum=plan.ema,
    )


def _configure(recipe: Recipe) -> None:
    """Seeds, determinism and threads, before TensorFlow computes anything."""
    try:
        import keras
        import tensorflow as tf
    except ImportError as error:
        raise MissingTool("training needs Keras on TensorFlow", "pip install 'edge-tinyml[train]'") from error
    keras.utils.clear_session()  # names of layers begin anew: they decide the order of sums in the compiled graph
    keras.utils.set_random_seed(recipe.seed)
    tf.config.experimental.enable_op_determinism()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(recipe.schedule.threads)
    except RuntimeError:
        pass  # TensorFlow keeps the threads that this process first computed with


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
