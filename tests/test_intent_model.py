"""The shipped model: its split, its test sets, its size, and what it answers in float on the host."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from pathlib import Path

import pytest

from edge.make import checkpoints
from edge.make.checkpoints import Checkpoint
from edge.make.convert import convert
from edge.make.learn import grammar, recipe, sets
from edge.make.learn.baseline import Baseline, exact_match
from edge.make.learn.grammar import Grammar, Sentence
from edge.make.learn.recipe import Recipe
from edge.tokenizer import Tokenizer, from_card
from firmware_tools import vocabulary
from tests.oracle import Decoder

FOLDER = Path(__file__).resolve().parent.parent / "models" / "intent"
# The held-out split as it was made before the training templates; editing it after a measurement is not allowed.
HELDOUT_TEMPLATES = "4801e4773caed266225be5c62392da6de30efe306248a58a728c84bdd9abd814"
HELDOUT_SET = "6d4e3085845edf2520e28834bfef5e7befc464eb054bb585a18bc97d0cb3a7d6"
STREAMED = 24_000  # training sentences that the tests look at
SAMPLED = 40  # sentences of each set that are answered here; the device answers all of them


@pytest.fixture(scope="module")
def plan() -> Recipe:
    return recipe.load(FOLDER / "recipe.toml")


@pytest.fixture(scope="module")
def commands(plan: Recipe) -> Grammar:
    return grammar.load(plan.beside(plan.data.grammar), plan.beside(plan.data.heldout))


@pytest.fixture(scope="module")
def tasks(plan: Recipe) -> dict[str, tuple[sets.Example, ...]]:
    return {name: sets.read(plan.beside(plan.tests.folder) / f"{name}.jsonl") for name in sets.NAMES}


@pytest.fixture(scope="module")
def streamed(plan: Recipe, commands: Grammar, tasks: dict[str, tuple[sets.Example, ...]]) -> list[Sentence]:
    """The beginning of what the recipe trains on, and as much with all noise at work."""
    prompts = frozenset(prompt for examples in tasks.values() for prompt, _ in examples)
    noises = plan.noise, dataclasses.replace(plan.noise, ramp=1)
    streams = (sets.Stream(commands, noise, plan.seed, prompts) for noise in noises)
    return [sentence for stream in streams for sentence in itertools.islice(stream, STREAMED // 2)]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return checkpoints.load(FOLDER / "checkpoint.npz")


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    return from_card(checkpoint.tokenizer, checkpoint.card)


# --- the grammar and the split


def test_the_grammar_has_enough_intents_and_phrasings(commands: Grammar) -> None:
    assert len(commands.intents) >= 20
    for intent, templates in commands.templates.items():
        assert len({template.text for template in templates}) >= 30, intent
    assert all(len(templates) >= 8 for templates in commands.heldout.values())


def test_every_template_gives_an_answer_of_its_intent(commands: Grammar) -> None:
    """A template's slots are slots of its intent's answer: nothing that is said gets lost."""
    for intent, keys in commands.intents.items():
        for template in (*commands.templates[intent], *commands.heldout[intent]):
            for text in template.texts():
                named = {commands.slots[name].key for name in grammar.SLOT.findall(text)}
                assert named <= set(keys), (intent, text)


def bigrams(words: tuple[str, ...]) -> set[tuple[str, str]]:
    return {(words[at], words[at + 1]) for at in range(len(words) - 1)}


def test_no_training_skeleton_is_near_a_heldout_one(commands: Grammar, streamed: list[Sentence]) -> None:
    """The share of a held-out skeleton's bigrams in any training skeleton, computed here anew: at most 60 %."""
    texts = (text for templates in commands.heldout.values() for template in templates for text in template.texts())
    heldout = [bigrams(grammar.skeleton(text)) for text in texts]
    assert min(map(len, heldout)) >= 2
    common = set.union(*heldout)
    training = {frozenset(bigrams(sentence.skeleton) & common) for sentence in streamed}
    assert len({sentence.skeleton for sentence in streamed}) > 10_000
    nearest = max(len(wanted & found) / len(wanted) for found in training for wanted in heldout)
    assert 0.5 < nearest <= 0.6


def test_every_template_is_trained_on(commands: Grammar) -> None:
    """The fence leaves something of every training template, so that what grammar.toml says is what is learned."""
    phrasing = sets.Phrasing(commands, courtesy=0.0)
    for templates in commands.templates.values():
        for template in templates:
            assert any(phrasing.allows(text) for text in template.texts()), template


def test_the_heldout_split_is_the_one_made_first() -> None:
    def digest(name: str) -> str:
        return hashlib.sha256((FOLDER / name).read_bytes().replace(b"\r\n", b"\n")).hexdigest()

    assert digest("heldout.toml") == HELDOUT_TEMPLATES
    assert digest("tasks/held-out.jsonl") == HELDOUT_SET


# --- the test sets


def test_the_sets_come_from_the_recipe(
    plan: Recipe, commands: Grammar, tasks: dict[str, tuple[sets.Example, ...]]
) -> None:
    assert tasks == sets.test_sets(commands, plan.tests.seed, plan.tests.each, plan.tests.courtesy)


def test_the_sets_are_large_and_disjoint(commands: Grammar, tasks: dict[str, tuple[sets.Example, ...]]) -> None:
    assert all(len(examples) >= 500 for examples in tasks.values())
    prompts = [prompt for examples in tasks.values() for prompt, _ in examples]
    assert len(prompts) == len(set(prompts))
    for examples in tasks.values():
        assert {answer.split()[0] for _, answer in examples} == set(commands.intents)


def test_no_test_sentence_is_trained_on(tasks: dict[str, tuple[sets.Example, ...]], streamed: list[Sentence]) -> None:
    trained = {sentence.prompt for sentence in streamed}
    assert not trained & {prompt for examples in tasks.values() for prompt, _ in examples}


# --- the model


def test_the_model_is_of_the_size_promised(checkpoint: Checkpoint) -> None:
    parameters = sum(weight.size for weight in checkpoint.weights.values())
    assert 100_000 <= parameters <= 200_000
    assert len(convert(checkpoint, "int8")) <= 250_000


def test_the_card_says_what_the_recipe_says(plan: Recipe, checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
    assert checkpoint.card["name"] == plan.name == "intent"
    assert checkpoint.card["licence"] == "Apache-2.0"
    assert checkpoint.architecture.vocab_size == tokenizer.vocab_size <= plan.data.vocab_size
    assert checkpoint.architecture.context == plan.shape.context
    assert tokenizer.bos_id == 1 and tokenizer.stop_ids == (2,)


def test_the_board_can_encode_for_the_model(checkpoint: Checkpoint) -> None:
    assert vocabulary.read(checkpoint.tokenizer).can_encode


def test_every_test_sentence_fits_the_context(
    checkpoint: Checkpoint, tokenizer: Tokenizer, tasks: dict[str, tuple[sets.Example, ...]]
) -> None:
    for examples in tasks.values():
        for prompt, answer in examples:
            length = len(tokenizer.prompt(prompt)) + len(tokenizer.encode(answer)) + 1
            assert length <= checkpoint.architecture.context, prompt


def answer(checkpoint: Checkpoint, tokenizer: Tokenizer, prompt: str) -> str:
    """The greedy answer of the independent float decoder."""
    decoder, said = Decoder(checkpoint), list[int]()
    ids = tokenizer.prompt(prompt)
    for position in range(checkpoint.architecture.context):
        logits = decoder.step(ids[position], position)
        if position + 1 == len(ids):
            said.append(int(logits.argmax()))
            if said[-1] in tokenizer.stop_ids:
                break
            ids.append(said[-1])
    return tokenizer.decode(said, continuation=True)


def test_it_answers_the_sentence_on_its_card(checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
    prompt = "turn the kitchen lamp down to 20 percent"
    assert answer(checkpoint, tokenizer, prompt) == "light_set room=kitchen level=20"


@pytest.mark.parametrize(("name", "least"), [("seen", 0.9), ("held-out", 0.7), ("typo", 0.75)])
def test_it_answers_a_sample_of_each_set(
    checkpoint: Checkpoint,
    tokenizer: Tokenizer,
    tasks: dict[str, tuple[sets.Example, ...]],
    name: str,
    least: float,
) -> None:
    examples = tasks[name][:: len(tasks[name]) // SAMPLED]
    right = sum(answer(checkpoint, tokenizer, prompt) == wanted for prompt, wanted in examples)
    assert right / len(examples) >= least


def test_the_baseline_scores_as_the_readme_says(commands: Grammar, tasks: dict[str, tuple[sets.Example, ...]]) -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    row = next(line for line in readme.splitlines() if line.startswith("| keyword baseline"))
    found = [f"{exact_match(Baseline(commands), tasks[name]):.3f}" for name in sets.NAMES]
    assert [cell.strip() for cell in row.split("|")[2:5]] == found
