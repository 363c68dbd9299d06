"""The files that models are asked from: texts, and tasks, whose every line is a prompt with its only right answer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware_tools.errors import BadFile


@dataclass(frozen=True)
class Example:
    """One line of a task: `prompt` is asked, `answer` is the only right text."""

    prompt: str
    answer: str


def read_task(path: Path) -> list[Example]:
    """The examples of a .jsonl file: an object with `prompt` and `answer` on every line."""
    examples = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            data: Any = json.loads(line)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, dict) or not all(isinstance(data.get(key), str) for key in ("prompt", "answer")):
            raise BadFile(
                f'{path} line {number} is not {{"prompt": "…", "answer": "…"}}', "one such object on each line"
            )
        examples.append(Example(data["prompt"], data["answer"]))
    if not examples:
        raise BadFile(f"{path} has no examples", 'one {"prompt": "…", "answer": "…"} on each line')
    return examples


def read_text(path: Path) -> str:
    """The whole of a UTF-8 file."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadFile(f"{path} cannot be read: {error.strerror}", "give the path of a UTF-8 text") from error
    except UnicodeDecodeError as error:
        raise BadFile(f"{path} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
