"""A .tflite that another converter wrote, made ours: inputs and outputs in a stated order, words in the metadata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge import words as text
from edge.words import Words
from firmware_tools import graph


def arranged(content: bytes, inputs: Sequence[str], outputs: Sequence[str], words: Words | None = None) -> bytes:
    """The file with inputs and outputs in the order of these names of its signature; with words where it takes a text.

    Converters order them as they please; what runs a plain model goes by the order, and takes the first output's
    numbers for classes.
    """
    graph.read(content)  # nothing unchecked is taken apart
    model: Any = schema.ModelT.InitFromPackedBuf(content, 0)
    main, signature = model.subgraphs[0], model.signatureDefs[0]
    main.inputs = _ordered(main.inputs, signature.inputs, inputs)
    main.outputs = _ordered(main.outputs, signature.outputs, outputs)
    if words is not None:
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data = np.frombuffer(words.json, np.uint8)
        entry.name, entry.buffer = text.KEY, len(model.buffers)
        model.buffers.append(buffer)
        model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + (1 << 16))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _ordered(tensors: Any, named: Any, names: Sequence[str]) -> list[int]:
    """The tensors of the subgraph in the order of the names; as they are where the two do not say the same."""
    by_name = {entry.name.decode(): int(entry.tensorIndex) for entry in named}
    wanted = [by_name[name] for name in names if name in by_name]
    return (
        wanted if sorted(wanted) == sorted(int(tensor) for tensor in tensors) else [int(tensor) for tensor in tensors]
    )
