"""JSON's types into frozen dataclasses, every field verified against its type hint."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any

KELVIN_0_C = -273.15


def dataclass_of(kind: Any, data: Any, where: str) -> Any:
    """An instance of the dataclass kind; fields with a default may be missing. ValueError names what is wrong."""
    if not isinstance(data, dict):
        raise ValueError(f"{where or 'it'} is not an object")
    hints = typing.get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):
        name = f"{where}.{field.name}".lstrip(".")
        if field.name in data:
            values[field.name] = _value(hints[field.name], data[field.name], name)
        elif field.default is dataclasses.MISSING:
            raise ValueError(f"{name} is missing")
    return kind(**values)


def what_fits(kind: Any, data: Mapping[str, Any]) -> Any:
    """An instance of the dataclass kind, all of whose fields have defaults, with what fits in data."""
    hints = typing.get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):
        try:
            values[field.name] = _value(hints[field.name], data[field.name], field.name)
        except (KeyError, ValueError):
            continue
    return kind(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    """value if it is of the type hint (of those that records use); ValueError else."""
    if typing.get_origin(hint) is UnionType or typing.get_origin(hint) is typing.Union:
        if value is None:
            return None
        (hint,) = (part for part in typing.get_args(hint) if part is not NoneType)
    if dataclasses.is_dataclass(hint):
        return dataclass_of(hint, value, where)
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_value(typing.get_args(hint)[0], item, where) for item in value)
    if typing.get_origin(hint) is Mapping and isinstance(value, dict):
        return {key: _value(typing.get_args(hint)[1], item, where) for key, item in value.items()}
    if hint in (int, float):
        least = KELVIN_0_C if where.endswith("_c") else 0
        fits = _is_number(value, least) and (hint is float or isinstance(value, int))
    else:
        fits = hint in (str, bool, NoneType) and isinstance(value, hint)
    if not fits:
        raise ValueError(f"{where} has a value that it cannot have")
    return value


def _is_number(value: Any, least: float) -> bool:
    """Amounts are not negative; only degrees Celsius (names that end in _c) are."""
    try:
        return (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= least
        )
    except OverflowError:  # a whole number beyond all floats
        return False
