"""The zoo: the models that come along, one folder each under `models/`. Data only.

A model's file is `NAME/NAME.tflite`, its tasks are `NAME/tasks/*.jsonl`. In a checkout the zoo lies beside the package,
in an installed wheel inside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from firmware_tools.errors import BadFile, UserError

PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Entry:
    """One model of the zoo, and the files of its tasks by name."""

    name: str
    folder: Path
    model: Path
    tasks: dict[str, Path]


def folder() -> Path:
    """Where the zoo lies."""
    inside = PACKAGE / "models"
    return inside if inside.is_dir() else PACKAGE.parent / "models"


def entries() -> tuple[Entry, ...]:
    """Every model of the zoo, sorted by name."""
    models = sorted(folder().glob("*/*.tflite"))
    return tuple(_entry(model) for model in models if model.stem == model.parent.name)


def _entry(model: Path) -> Entry:
    return Entry(model.stem, model.parent, model, _tasks(model.parent))


def _tasks(model: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted((model / "tasks").glob("*.jsonl"))}


def find(text: str) -> Path:
    """The .tflite that MODEL names: a path, or a model of the zoo. BadFile where it is neither."""
    if Path(text).is_file():
        return Path(text)
    names = {entry.name: entry.model for entry in entries()}
    if text in names:
        return names[text]
    what = "is a folder" if Path(text).is_dir() else "does not exist"
    raise BadFile(f"{text} {what}", f"give the path of a .tflite, or the name of a shipped model: {', '.join(names)}")


def find_task(text: str, name: str) -> Path:
    """The .jsonl that TASK names: a path, or a task of the zoo's model called name (what a model's card says)."""
    if Path(text).is_file():
        return Path(text)
    tasks = _tasks(folder() / name) if name in {path.name for path in folder().iterdir()} else {}
    if text in tasks:
        return tasks[text]
    known = f" or a task of {name}: {', '.join(tasks)}" if tasks else f"; {name} has no tasks of its own"
    raise UserError(f"{text} is neither a file nor a task of {name}", f"give a .jsonl{known}")
