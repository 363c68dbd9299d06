"""What generated C is made of: strings and numbers as literals, and the constants of weights.c.

Strings of the model file enter C as escaped literals alone, never as comments or identifiers.
"""

from __future__ import annotations

import hashlib
import string
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from firmware_tools.ops import Array

NAME_BYTES = 40
LITERAL = 96  # characters of a string in a line
PLAIN = frozenset(string.ascii_letters + string.digits + " !#$%&'()*+,-./:;<=>@[]^_`{|}~")  # as they are in a C string
C_TYPES = {
    np.dtype(np.float32): "float",
    np.dtype(np.int8): "int8_t",
    np.dtype(np.uint8): "uint8_t",
    np.dtype(np.int16): "int16_t",
    np.dtype(np.uint16): "uint16_t",
    np.dtype(np.int32): "int32_t",
    np.dtype(np.uint32): "uint32_t",
    np.dtype(np.int64): "int64_t",
    np.dtype(np.bool_): "uint8_t",
}


@dataclass
class Constants:
    """The arrays of weights.c in the order of their first use; equal ones are one."""

    arrays: list[tuple[Array, str]] = field(default_factory=list)
    _names: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)

    @property
    def size_bytes(self) -> int:
        return sum(array.nbytes for array, _ in self.arrays)

    def name(self, array: Array, use: str) -> str:
        """The C identifier of an array; use says what it is, for a comment."""
        array = np.ascontiguousarray(array)
        key = (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._names:
            self._names[key] = f"w_{len(self.arrays)}"
            self.arrays.append((array, use))
        return self._names[key]


# --- strings


def plain_name(name: str) -> str:
    """A name in printable ASCII, short enough for the runtime."""
    return "".join(c if " " <= c <= "~" else "?" for c in name)[:NAME_BYTES]


def c_string(data: bytes) -> str:
    """Bytes as C string literals, one a line where they are long.

    Whatever is not plain (line ends, NUL, backslash, trigraphs) becomes three octal digits.
    """
    words = ['\\"' if byte == ord('"') else chr(byte) if chr(byte) in PLAIN else f"\\{byte:03o}" for byte in data]
    lines = [f'"{"".join(words[i : i + LITERAL])}"' for i in range(0, len(words), LITERAL)] or ['""']
    return "\n        ".join(lines)


# --- weights


def weights_h(constants: Constants) -> str:
    lines = [
        f"extern const {C_TYPES[array.dtype]} w_{index}[{array.size}]; /* {use} {list(array.shape)} */"
        for index, (array, use) in enumerate(constants.arrays)
    ]
    body = "\n".join(lines)
    return f"""/* The model's constants. Generated. SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
#ifndef EDGE_WEIGHTS_H
#define EDGE_WEIGHTS_H

#include <stdint.h>

{body}

#endif
"""


def weights_c(constants: Constants) -> str:
    title = "/* The model's constants. Generated. SPDX-License-Identifier: Apache-2.0 OR MIT-0 */"
    parts = [f'{title}\n#include "weights.h"\n\n#include "section.h"\n']
    for index, (array, _) in enumerate(constants.arrays):
        head = f"const {C_TYPES[array.dtype]} w_{index}[{array.size}] EDGE_WEIGHTS __attribute__((aligned(4)))"
        parts.append(f"{head} = {{\n{rows(array)}\n}};\n")
    return "\n".join(parts)


def rows(array: Array) -> str:
    """The elements as C, some to a line; floats in hexadecimal, which is exact."""
    if array.dtype == np.float32:
        words, width = _hex_floats(array), 8
    else:
        words, width = _integers(array), 32
    return "\n".join(",".join(words[i : i + width]) + "," for i in range(0, len(words), width))


def _integers(array: Array) -> list[str]:
    array = array.astype(np.uint8) if array.dtype == np.bool_ else array
    if array.dtype.itemsize == 1:  # a table of the 256 texts is faster than str of each
        low = int(np.iinfo(array.dtype).min)
        texts = np.array([str(low + i) for i in range(256)], dtype=object)
        return list(texts[array.reshape(-1).astype(np.int16) - low])
    return list(map(str, array.reshape(-1).tolist()))


def _hex_floats(array: Array) -> list[str]:
    """0x1.99999ap-4f and the like; a float32's last seven digits of a double are zeros."""
    values: list[Any] = array.reshape(-1).tolist()
    texts = [f"{value.hex().replace('0000000p', 'p')}f" for value in values]
    odd = {"inff": "__builtin_inff()", "-inff": "-__builtin_inff()", "nanf": '__builtin_nanf("")'}
    return texts if bool(np.isfinite(array).all()) else [odd.get(text, text) for text in texts]
