"""A Python file with facts that a user has written: executed as any module of ours, but every fault in it is one
UserError that names the line.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from firmware_tools.errors import BadFile

Facts = TypeVar("Facts")


def read(path: Path, name: str, kind: type[Facts], hint: str) -> Facts:
    """What path calls name: a dataclass of this kind whose fields are of the types that it says. BadFile else."""
    facts = _execute(path, hint).get(name)
    if not isinstance(facts, kind):
        raise BadFile(f"{path} has no {name} = {kind.__name__}(…)", hint)
    _check(facts, str(path), name, hint)
    return facts


def _execute(path: Path, hint: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), names)
    except OSError as error:
        raise BadFile(f"cannot read {path}: {error.strerror}", hint) from error
    except SyntaxError as error:
        raise BadFile(f"{path}, line {error.lineno}: {error.msg}", hint) from error
    except Exception as error:
        raise BadFile(f"{path}, line {_line(path, error)}: {error}", hint) from error
    return names


def _line(path: Path, error: BaseException) -> int:
    """The last line of the file that the error has come through; 0 where it has come through none."""
    at, line = error.__traceback__, 0
    while at is not None:
        line = at.tb_lineno if at.tb_frame.f_code.co_filename == str(path) else line
        at = at.tb_next
    return line


def _check(facts: Any, path: str, name: str, hint: str) -> None:
    """BadFile where a field, or one of a dataclass in it, is not of its type."""
    hints = get_type_hints(type(facts))
    for field in dataclasses.fields(facts):
        value, place = getattr(facts, field.name), f"{name}.{field.name}"
        if not _is(value, hints[field.name]):
            wanted = str(field.type)
            raise BadFile(f"{path}: {place} = {value!r} is not of the type {wanted}"[:300], hint)
        parts = value if isinstance(value, tuple) else (value,)
        for part in parts:
            if dataclasses.is_dataclass(part):
                _check(part, path, place, hint)


def _is(value: Any, kind: Any) -> bool:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_is(value, one) for one in inner)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is(one, inner[0]) for one in value)
    if origin is frozenset:
        return isinstance(value, frozenset) and all(_is(one, inner[0]) for one in value)
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_is(k, inner[0]) and _is(v, inner[1]) for k, v in value.items())
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)
