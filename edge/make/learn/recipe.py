"""A recipe: everything that a training run depends on, read from one TOML file; paths in it are beside the file."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from edge.make.learn.sets import Noise
from firmware_tools.errors import BadFile

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Table = TypeVar("Table")


@dataclass(frozen=True)
class Data:
    """Where the sentences come from: a grammar's two files, or a folder of SNIPS's form."""

    grammar: str = ""
    heldout: str = ""
    snips: str = ""
    pieces_from: int = 20000  # sentences that the tokenizer is learned from
    vocab_size: int = 512
    cut: float = 0.1  # share of prompts that are cut into unusual pieces


@dataclass(frozen=True)
class Tests:
    """The test sets: sentences of every intent in each, the share of courtesies, and the seed."""

    folder: str = "tasks"
    each: int = 22
    courtesy: float = 0.2
    seed: int = 1


@dataclass(frozen=True)
class Shape:
    """The decoder; head_dim is dim / heads."""

    dim: int = 64
    hidden_dim: int = 128
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    context: int = 96


@dataclass(frozen=True)
class Schedule:
    """Muon with a linear warm-up and a cosine decay, adam_ratio of its rate for AdamW, a moving average (ema)."""

    steps: int = 3000
    batch: int = 128
    rate: float = 0.01
    adam_ratio: float = 0.4
    warmup: int = 50
    weight_decay: float = 0.02
    dropout: float = 0.0
    ema: float = 0.99
    threads: int = 2


@dataclass(frozen=True)
class Recipe:
    """A whole recipe; path is its file."""

    path: Path
    name: str
    card: str
    seed: int = 0
    data: Data = field(default_factory=Data)
    tests: Tests = field(default_factory=Tests)
    noise: Noise = field(default_factory=Noise)
    shape: Shape = field(default_factory=Shape)
    schedule: Schedule = field(default_factory=Schedule)

    def beside(self, name: str) -> Path:
        """The path of a file that the recipe names."""
        return self.path.parent / name


def load(path: Path) -> Recipe:
    """Reads a recipe. Raises BadFile where it is no TOML, or has a key or a type that no recipe has."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadFile(f"{path} does not exist", "give a recipe, such as models/intent/recipe.toml") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise BadFile(f"{path} is not a recipe: {error}", "a recipe is a TOML file") from error
    kinds = {"data": Data, "tests": Tests, "noise": Noise, "shape": Shape, "schedule": Schedule}
    parts: dict[str, Any] = {name: _table(path, name, kind, tables.pop(name, {})) for name, kind in kinds.items()}
    texts = {name: tables.pop(name, None) for name in ("name", "card")}
    seed = tables.pop("seed", 0)
    if tables or not isinstance(seed, int) or not all(isinstance(text, str) for text in texts.values()):
        wrong = f"the unknown key {sorted(tables)[0]!r}" if tables else "no name, card and seed of the right types"
        raise BadFile(f"{path} has {wrong}", f"a recipe has name, card, seed, {', '.join(kinds)}")
    return Recipe(path, str(texts["name"]), str(texts["card"]), seed, **parts)


def _table(path: Path, name: str, kind: type[Table], values: Any) -> Table:
    """One table as its dataclass; an int may stand for a float."""
    defaults = kind()
    known = {each.name: getattr(defaults, each.name) for each in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if not isinstance(values, dict):
        raise BadFile(f"{path}: {name} is not a table", f"write [{name}]")
    for key, value in values.items():
        right = (int, float) if isinstance(known.get(key), float) else type(known.get(key))
        if key not in known or not isinstance(value, right):
            raise BadFile(f"{path}: [{name}] has no {key} = {value!r}", f"keys of [{name}]: {', '.join(known)}")
    return kind(**values)
