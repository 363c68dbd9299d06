"""The command grammar: templates, slots, the fence between the splits, typing mistakes, batches and keyword rules."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from edge.make.learn import batches, grammar, recipe, sets, snips, split, typos
from edge.make.learn.baseline import Baseline, exact_match
from edge.make.learn.grammar import Grammar, Word
from edge.make.learn.slots import invented, spelled
from edge.tokenizer import Tokenizer, train
from firmware_tools import vocabulary
from firmware_tools.errors import BadFile

SMALL = """
[intents]
lamp = ["room", "level"]
call = ["name"]
[slots.room]
kind = "closed"
kitchen = ["kitchen"]
hall = ["hall", "entrance hall"]
[slots.level]
kind = "number"
low = 0
high = 100
spelled = 0.5
[slots.name]
kind = "open"
patterns = ["$first", "$any $first"]
[words]
first = "anna ben"
[phrases]
light = "(light|lamp)"
[courtesy]
before = ["please"]
call = ["hey"]
after = ["now"]
remark = ["i am home"]
[noise]
droppable = "the"
fillers = "well"
[train]
lamp = ["set the <light> [in the {room}] to {level} percent", "dim[mer] {room} {level}"]
call = ["call {name}", "phone {name}'s office"]
"""
HELDOUT = """
lamp = ["give me {level} percent of light in the {room}"]
call = ["get {name} on the line"]
"""


def load(folder: Path, text: str = SMALL, heldout: str = HELDOUT) -> Grammar:
    (folder / "grammar.toml").write_text(text)
    (folder / "heldout.toml").write_text(heldout)
    return grammar.load(folder / "grammar.toml", folder / "heldout.toml")


@pytest.fixture
def small(tmp_path: Path) -> Grammar:
    return load(tmp_path)


def test_a_template_stands_for_all_its_texts(small: Grammar) -> None:
    first, second = small.templates["lamp"]
    assert set(first.texts()) == {
        f"set the {light}{room} to {{level}} percent" for light in ("light", "lamp") for room in ("", " in the {room}")
    }
    assert set(second.texts()) == {"dim {room} {level}", "dimmer {room} {level}"}
    drawn = {first.draw(random.Random(seed)) for seed in range(50)}
    assert drawn == set(first.texts())


def test_an_answer_has_the_slots_in_the_intents_order(small: Grammar) -> None:
    rng = random.Random(0)
    for _ in range(200):
        sentence = small.fill("lamp", "at {level} light the {room}", rng)
        words = sentence.prompt.split()
        number, room = sentence.answer.split()[2].removeprefix("level="), sentence.answer.split()[1]
        assert " ".join(words[1 : words.index("light")]) in (number, spelled(int(number)))
        assert room == ("room=hall" if "hall" in words else "room=kitchen")
        assert sentence.skeleton == ("at", "_", "light", "the", "_")


def test_an_open_slot_is_repeated_with_underscores(small: Grammar) -> None:
    for seed in range(50):
        sentence = small.fill("call", "phone {name}'s office", random.Random(seed))
        name = sentence.prompt.removeprefix("phone ").removesuffix("'s office")
        assert sentence.answer == f"call name={name.replace(' ', '_')}"
        assert [word.literal for word in sentence.words] == [
            word.text in f"{name}'s".split() for word in sentence.words
        ]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("<light>", "<bulb>", "unknown phrase"),
        ("[in the {room}]", "[in the {floor}]", "unknown slot floor"),
        ("[in the {room}]", "[in the {room}", "unmatched bracket"),
        ("dim[mer]", "dim]mer", "unmatched bracket"),
        ('kind = "number"', 'kind = "colour"', "unknown kind 'colour'"),
        ("low = 0", "", "low"),
        ('"$any $first"', '"$last"', "word list last"),
        ("[train]", "[train]\nswim = ['swim']", "no intent"),
        ("[train]", "[train", "not TOML"),
    ],
)
def test_a_wrong_grammar_is_one_error(tmp_path: Path, old: str, new: str, says: str) -> None:
    with pytest.raises(BadFile, match=says):
        load(tmp_path, SMALL.replace(old, new))


def test_spelled_numbers() -> None:
    assert [spelled(number) for number in (0, 13, 20, 25, 99, 100)] == (
        ["zero", "thirteen", "twenty", "twenty five", "ninety nine", "a hundred"]
    )
    assert len({spelled(number) for number in range(101)}) == 101


def test_durations_and_times_answer_what_is_said() -> None:
    timed = grammar.load(*(Path(__file__).parent.parent / "models/intent" / f"{name}.toml" for name in PARTS))
    rng = random.Random(3)
    said = {value.said: value.answer for value in (timed.slots["time"].sample(rng) for _ in range(20_000))}
    assert said["12 am"] == "00:00" and said["12 pm"] == said["noon"] == "12:00"
    assert said["7:30 pm"] == said["19:30"] == "19:30" and said["7:30 am"] == "07:30"
    assert said["quarter to one"] == "12:45" and said["half past 12"] == "12:30" and said["quarter to 8"] == "07:45"
    spans = {value.said: value.answer for value in (timed.slots["duration"].sample(rng) for _ in range(20_000))}
    assert spans["20 minutes"] == "20m" and spans["2 hours"] == "2h" and spans["an hour and a half"] == "90m"


PARTS = ("grammar", "heldout")


def test_overlap_is_the_share_of_the_heldout_skeletons_bigrams() -> None:
    heldout = ("turn", "the", "_", "off")
    assert split.overlap(heldout, ("turn", "the", "_", "on")) == pytest.approx(2 / 3)
    assert split.overlap(heldout, ("please", "turn", "the", "lamp", "off")) == pytest.approx(1 / 3)
    assert split.overlap(heldout, ("off", "_", "the", "turn")) == 0
    assert split.overlap(("off",), ("on", "off")) == 1


def test_the_fence_agrees_with_the_overlap() -> None:
    rng = random.Random(1)

    def skeleton() -> tuple[str, ...]:
        return tuple(rng.choice("abc_") for _ in range(rng.randint(2, 6)))

    heldout = {skeleton() for _ in range(15)}
    fence = split.Fence(heldout)
    verdicts = []
    for _ in range(3000):
        training = skeleton()
        near = max(split.overlap(other, training) for other in heldout)
        assert fence.allows(training) == (near <= split.LIMIT + 1e-9)
        verdicts.append(fence.allows(training))
    assert {True, False} == set(verdicts)


def test_one_typo_is_one_edit_and_literal_words_stay() -> None:
    rng = random.Random(0)
    words = (Word("kitchen"), Word("anna", True), Word("set"), Word("25", True))
    seen = {typos.add_typos(words, 1, rng)[0].text for _ in range(500)}
    assert {"kitchne", "kichen", "kittchen"} <= seen
    for text in seen - {"kitchen"}:
        assert abs(len(text) - len("kitchen")) <= 1
    assert typos.add_typos(words, 9, random.Random(1))[1:] == words[1:]
    assert typos.mistype("25", rng) == "25"


def test_the_stream_repeats_itself_and_leaves_the_tests_out(small: Grammar) -> None:
    def first(count: int, without: frozenset[str] = frozenset()) -> list[str]:
        stream = sets.Stream(small, sets.Noise(), 7, without)
        return [sentence.prompt for sentence in itertools.islice(stream, count)]

    usual = first(3000)
    assert usual == first(3000)
    without = frozenset(usual[::2])
    assert not without & set(first(3000, without))


def test_the_test_sets_repeat_themselves_without_a_prompt_twice(small: Grammar) -> None:
    made = sets.test_sets(small, seed=4, each=20, courtesy=0.2)
    assert made == sets.test_sets(small, seed=4, each=20, courtesy=0.2)
    prompts = [prompt for examples in made.values() for prompt, _ in examples]
    assert len(prompts) == len(set(prompts)) == 120
    assert all(prompt.startswith(("give me", "get")) for prompt, _ in made["held-out"])


def test_a_task_file_is_read_back(tmp_path: Path) -> None:
    examples = (("turn it “on”", "lamp"), ("call zoë", "call name=zoë"))
    sets.write(tmp_path / "a.jsonl", examples)
    assert sets.read(tmp_path / "a.jsonl") == examples
    (tmp_path / "a.jsonl").write_text('{"prompt": "x"}\n')
    with pytest.raises(BadFile, match="not a task file"):
        sets.read(tmp_path / "a.jsonl")


def test_words_have_the_same_pieces_in_a_command_and_in_its_answer() -> None:
    texts = ["play silver river and the silver moon", "play song=silver_river_and_the_silver_moon"] * 20
    document = train(texts, 330, word_mark=False)
    assert vocabulary.read(document).can_encode
    tokenizer = Tokenizer(document)
    assert tokenizer.decode(tokenizer.encode("song=silver_river 25%")) == "song=silver_river 25%"
    space, mark = tokenizer.encode(" "), tokenizer.encode("_")
    assert len(space) == len(mark) == 1
    said = tokenizer.encode("silver river zylq 2013")
    assert [mark[0] if id == space[0] else id for id in said] == tokenizer.encode("silver_river_zylq_2013")
    assert len(tokenizer.encode("2013")) == 4


def test_batches_pad_prompts_left_and_answers_right() -> None:
    tokenizer = Tokenizer(train(["aa bb cc"] * 5, 330, word_mark=False), bos_id=1, stop_ids=(2,), after="\n")
    made = list(batches.batches(tokenizer, [("aa bb", "cc"), ("c", "b a")], 2, context=64, seed=0, cut=0.0))
    assert len(made) == 1
    batch = made[0]
    for prompt, begins, answer, weight in zip(batch.prompt, batch.begins, batch.answer, batch.weight, strict=True):
        text = tokenizer.decode(prompt[begins:].tolist())
        wanted = {"aa bb\n": "cc", "c\n": "b a"}[text]
        assert prompt[begins] == 1 and not prompt[:begins].any()
        assert tokenizer.decode(answer[weight == 1].tolist()) == wanted and answer[weight == 1][-1] == 2


def test_a_cut_prompt_still_says_the_same() -> None:
    tokenizer = Tokenizer(train(["turn the lamp down"] * 9, 400, word_mark=False), bos_id=1, stop_ids=(2,), after="\n")
    usual = tokenizer.prompt("turn the lamp down")
    found = [batches.encode(tokenizer, ("turn the lamp down", "x"), random.Random(seed), 1.0)[0] for seed in range(30)]
    assert {tokenizer.decode(ids) for ids in found} == {"turn the lamp down\n"}
    assert any(ids != usual for ids in found)


def test_what_exceeds_the_context_is_left_out() -> None:
    tokenizer = Tokenizer(train(["a b"] * 5, 330, word_mark=False), bos_id=1, stop_ids=(2,), after="\n")
    made = list(batches.batches(tokenizer, [("a " * 40, "b"), ("a", "b")], 8, context=16, seed=0, cut=0.0))
    assert [batch.prompt.shape[0] for batch in made] == [1]


def test_the_baseline_answers_by_keywords(small: Grammar) -> None:
    baseline = Baseline(small)
    assert baseline.answer("dim the hall to twenty five percent") == "lamp room=hall level=25"
    assert baseline.answer("phone zyx please") == "call name=zyx_please"
    assert exact_match(baseline, [("dim kitchen 4", "lamp room=kitchen level=4"), ("call ben", "lamp")]) == 0.5


def test_snips_answers_come_from_its_tags(tmp_path: Path) -> None:
    part = tmp_path / "train"
    part.mkdir()
    (part / "seq.in").write_text("play daft punk on google music \n")
    (part / "seq.out").write_text("O B-artist I-artist O B-service I-service \n")
    (part / "label").write_text("PlayMusic\n")
    wanted = "PlayMusic artist=daft_punk service=google_music"
    ((words, answer),) = snips.read(part)
    assert answer == wanted and [word.literal for word in words] == [False, True, True, False, True, True]
    assert next(snips.stream(tmp_path, sets.Noise(typo=0.0), 0)) == ("play daft punk on google music", wanted)
    with pytest.raises(BadFile, match="not a part of SNIPS"):
        snips.read(tmp_path / "test")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = 3\ncard = 'c'", "right types"),
        ("name = 'a'\ncard = 'c'\nsped = 1", "unknown key 'sped'"),
        ("name = 'a'\ncard = 'c'\n[schedule]\nsteps = 'many'", "no steps = 'many'"),
        ("name = 'a'\ncard = 'c'\n[schedule]\nstep = 4", "no step = 4"),
        ("name = 'a'\ncard = 'c'\nschedule = 4", "schedule is not a table"),
        ("name = ", "not a recipe"),
    ],
)
def test_a_wrong_recipe_is_one_error(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(BadFile, match=says):
        recipe.load(tmp_path / "recipe.toml")
    with pytest.raises(BadFile, match="does not exist"):
        recipe.load(tmp_path / "none.toml")


def test_an_invented_word_is_letters() -> None:
    assert all(invented(random.Random(seed)).isalpha() for seed in range(200))
