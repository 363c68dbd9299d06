"""Intervals: whether they cover what they should, of data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from edge.measure import bootstrap, figures
from edge.measure.figures import FIGURES
from edge.measure.record import Accuracy, Outcomes

PERPLEXITY, _, KL, TOP1, EXACT_MATCH, *_ = FIGURES
TOKENS = 1024


def costs(random: np.random.Generator, texts: int) -> np.ndarray:
    """Nats of tokens [texts, TOKENS] of mean 2, each dependent on those before it."""
    noise = random.standard_normal((texts, TOKENS)) * 0.6
    for at in range(1, TOKENS):
        noise[:, at] += 0.6 * noise[:, at - 1]
    return np.asarray(2 + noise)


def of_text(nats: np.ndarray, kl: np.ndarray | None = None, agreed: np.ndarray | None = None) -> Accuracy:
    """The part of an Accuracy that intervals are made of."""
    parts = figures.blocks(nats.size)
    return Accuracy(
        outcomes=Outcomes(
            tokens=tuple(part.stop - part.start for part in parts),
            bytes=tuple(4 * (part.stop - part.start) for part in parts),
            nats=tuple(float(nats[part].sum()) for part in parts),
            kl=None if kl is None else tuple(float(kl[part].sum()) for part in parts),
            agreed=None if agreed is None else tuple(int(agreed[part].sum()) for part in parts),
        )
    )


def test_blocks_cover_where_single_tokens_do_not() -> None:
    texts = costs(np.random.default_rng(0), 400)
    covered = alone = 0
    for nats in texts:
        outcomes = of_text(nats).outcomes
        assert outcomes is not None
        found = figures.intervals(outcomes).perplexity
        assert found is not None
        covered += found[0] <= np.exp(2) <= found[1]
        alone += abs(nats.mean() - 2) <= 1.96 * nats.std() / np.sqrt(TOKENS)
    assert 0.93 <= covered / len(texts) <= 0.97, covered
    assert alone / len(texts) < 0.75, "the data must be such that independent tokens would be a lie"


def test_few_units_cover_too() -> None:
    random = np.random.default_rng(1)
    samples = random.standard_normal((400, bootstrap.SMALLEST))
    covered = 0
    for sample in samples:
        found = bootstrap.interval(np.stack([sample, np.ones(sample.size)], axis=1), lambda s: s[..., 0] / s[..., 1])
        assert found is not None
        covered += found[0] <= 0 <= found[1]
    assert 0.91 <= covered / len(samples) <= 0.98, covered


def test_pairs_show_what_two_intervals_hide() -> None:
    """The same text for both: a cost of .01 nats more is seen, though each perplexity alone is known to a tenth."""
    random = np.random.default_rng(2)
    hard = costs(random, 1)[0]
    base, run = of_text(hard), of_text(hard + 0.01 + 0.02 * random.standard_normal(TOKENS))
    assert base.outcomes is not None and run.outcomes is not None
    first, second = (figures.intervals(one.outcomes).perplexity for one in (base, run))
    assert first is not None and second is not None
    assert second[0] < first[1], "alone they overlap"
    found = figures.difference(PERPLEXITY, run, base)
    assert found is not None and found.interval_95 is not None
    assert 0 < found.interval_95[0] < found.value < found.interval_95[1]
    assert found.interval_95[1] - found.interval_95[0] < (first[1] - first[0]) / 10
    assert figures.word(PERPLEXITY, found) == "worse"


def test_differences_of_equals_are_told_apart_one_time_in_twenty() -> None:
    random = np.random.default_rng(3)
    told = 0
    for hard in costs(random, 300):
        noise = 0.05 * random.standard_normal((2, TOKENS))
        found = figures.difference(PERPLEXITY, of_text(hard + noise[0]), of_text(hard + noise[1]))
        assert found is not None
        told += figures.word(PERPLEXITY, found) != "no difference told apart"
    assert 0.02 <= told / 300 <= 0.08, told


def test_words() -> None:
    nats, kl = np.full(TOKENS, 2.0), np.random.default_rng(4).uniform(0.1, 0.2, TOKENS)
    agreed = np.arange(TOKENS) % 10 > 0
    base, run = of_text(nats, kl, agreed), of_text(nats, kl * 0.9, agreed & (np.arange(TOKENS) % 5 > 0))

    def said(figure: figures.Figure, a: Accuracy, b: Accuracy) -> str:
        found = figures.difference(figure, a, b)
        assert found is not None
        return figures.word(figure, found)

    assert said(KL, run, base) == "better" and said(KL, base, run) == "worse"
    assert said(TOP1, run, base) == "worse" and said(TOP1, base, run) == "better"
    assert said(PERPLEXITY, run, base) == "the same throughout"
    short = of_text(nats[:100], kl[:100], agreed[:100])
    assert said(KL, of_text(nats[:100], kl[:100] * 2, agreed[:100]), short) == "too little data to tell"


def test_a_share_of_all_is_not_certain() -> None:
    outcomes = of_text(np.full(TOKENS, 2.0), np.zeros(TOKENS), np.ones(TOKENS, bool)).outcomes
    assert outcomes is not None
    found = figures.intervals(outcomes).top1
    assert found is not None and found[0] < 0.998 and found[1] == 1


def test_paired_examples() -> None:
    """Of 200 examples 12 are lost and 2 won: a difference of .05 that the sign test tells apart (p .013) as well."""
    base = "1" * 150 + "0" * 50
    run = "0" * 12 + "1" * 138 + "1" * 2 + "0" * 48
    found = figures.difference(
        EXACT_MATCH, Accuracy(outcomes=Outcomes(right=run)), Accuracy(outcomes=Outcomes(right=base))
    )
    assert found is not None and found.interval_95 is not None
    assert found.value == pytest.approx(-0.05)
    # the normal approximation: sd of a mean of 200 values, of which 12 are -1 and 2 are +1
    spread = 1.96 * np.sqrt((14 / 200 - 0.05**2) / 200)
    assert found.interval_95 == pytest.approx((-0.05 - spread, -0.05 + spread), abs=0.006)
    assert figures.word(EXACT_MATCH, found) == "worse"


def test_what_is_not_on_the_same_data_is_not_compared() -> None:
    a, b = of_text(np.full(640, 2.0)), of_text(np.full(704, 2.0))
    assert figures.difference(PERPLEXITY, a, b) is None
    assert figures.difference(KL, a, a) is None, "there was no reference"
    assert figures.difference(PERPLEXITY, Accuracy(), a) is None


def test_the_same_units_give_the_same_interval() -> None:
    units = np.stack([np.arange(40.0), np.ones(40)], axis=1)
    first = bootstrap.interval(units, lambda sums: sums[..., 0] / sums[..., 1])
    bootstrap._draws.cache_clear()
    assert first == bootstrap.interval(units, lambda sums: sums[..., 0] / sums[..., 1])


@pytest.mark.parametrize(("freedom", "t"), [(7, 2.3646), (15, 2.1314), (31, 2.0395), (127, 1.9788)])
def test_student(freedom: int, t: float) -> None:
    """Against the table of W. Gosset's distribution."""
    assert bootstrap.student(freedom) == pytest.approx(t, abs=1e-3)


def test_blocks_of_a_text() -> None:
    for count in (1, 31, 64, 65, 2048, 100_000):
        parts = figures.blocks(count)
        lengths = [part.stop - part.start for part in parts]
        assert sum(lengths) == count and max(lengths) - min(lengths) <= 1
        assert len(parts) <= figures.MOST_BLOCKS and (len(parts) == 1 or min(lengths) >= figures.BLOCK_TOKENS)
