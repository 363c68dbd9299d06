"""The split by phrasing: how near two skeletons are, and which training skeletons are too near a held-out one.

Nearness of a training skeleton to a held-out one is the share of the held-out skeleton's distinct word bigrams that the
training skeleton has too. Training never sees a skeleton nearer than LIMIT to any held-out one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from edge.make.learn.grammar import Grammar, Skeleton, skeleton

LIMIT = 0.6
Bigrams = frozenset[tuple[str, str]]


def bigrams(words: Skeleton) -> Bigrams:
    """The distinct pairs of neighbouring words."""
    return frozenset(zip(words, words[1:], strict=False))


def overlap(heldout: Skeleton, training: Skeleton) -> float:
    """Share of the held-out skeleton's bigrams that the training skeleton has; 1 where the first has only one word."""
    wanted = bigrams(heldout)
    return len(wanted & bigrams(training)) / len(wanted) if wanted else 1.0


def heldout_skeletons(grammar: Grammar) -> frozenset[Skeleton]:
    """Every skeleton that the held-out templates stand for."""
    texts = (text for templates in grammar.heldout.values() for template in templates for text in template.texts())
    return frozenset(skeleton(text) for text in texts)


class Fence:
    """Keeps training phrasing away from held-out phrasing: `allows(skeleton)` is false where they are too near."""

    def __init__(self, heldout: Iterable[Skeleton], limit: float = LIMIT) -> None:
        self._holders: dict[tuple[str, str], list[int]] = defaultdict(list)
        self._most: list[float] = []
        for index, words in enumerate(sorted(heldout)):
            pairs = bigrams(words)
            self._most.append(limit * len(pairs))
            for pair in pairs:
                self._holders[pair].append(index)
        self._known: dict[Skeleton, bool] = {}

    def allows(self, training: Skeleton) -> bool:
        """Whether no held-out skeleton shares more than the limit of its bigrams with this one."""
        if training not in self._known:
            shared = Counter(index for pair in bigrams(training) for index in self._holders.get(pair, ()))
            self._known[training] = all(count <= self._most[index] + 1e-9 for index, count in shared.items())
        return self._known[training]
