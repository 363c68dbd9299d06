"""A .tflite of ours in LiteRT, with a KV cache kept as docs/model-file.md says: what tests compare with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray

from firmware_tools import graph

RESOLVERS = {"xnnpack": OpResolverType.BUILTIN, "reference": OpResolverType.BUILTIN_REF}
Array = NDArray[Any]


class Model:
    """Both signatures over one cache; kernels is a key of RESOLVERS.

    slots: positions that the cache is given, where the file leaves that open; 0 for all of the context.
    """

    def __init__(self, data: bytes, kernels: str, filling: float = 0.0, slots: int = 0) -> None:
        shape = graph.read(data).card["architecture"]
        self.size = (shape["kv_heads"], slots or shape["context"], shape["head_dim"])
        self.count = shape["prefill"]
        lite = Interpreter(model_content=data, experimental_op_resolver_type=RESOLVERS[kernels], num_threads=1)
        self._decode = lite.get_signature_runner("decode")
        self._prefill = lite.get_signature_runner("prefill")
        random = np.random.default_rng(0)
        names = [f"{side}_{layer}" for side in "kv" for layer in range(shape["layers"])]
        self.caches = {name: (filling * random.uniform(-1, 1, self.size)).astype(np.float32) for name in names}

    def decode(self, token: int, position: int) -> Array:
        """Logits float32 [vocab_size] after one token."""
        outputs = self._decode(token=np.int32([token]), position=np.int32([position]), **self._flat())
        self._keep(outputs, position, 1)
        return outputs["logits"]

    def prefill(self, tokens: Sequence[int], position: int, padding: int = 0) -> Array:
        """Logits float32 [vocab_size] after the last of at most `count` tokens."""
        padded = np.full(self.count, padding, np.int32)
        padded[: len(tokens)] = tokens
        where = {"position": np.int32([position]), "length": np.int32([len(tokens)])}
        outputs = self._prefill(tokens=padded, **where, **self._flat())
        self._keep(outputs, position, len(tokens))
        return outputs["logits"]

    def _flat(self) -> dict[str, Array]:
        return {name: cache.reshape(-1) for name, cache in self.caches.items()}

    def _keep(self, outputs: dict[str, Array], position: int, length: int) -> None:
        groups, _, head_dim = self.size
        for name, cache in self.caches.items():
            new = outputs[f"{name[0]}_new_{name[2:]}"].reshape(groups, -1, head_dim)
            cache[:, position : position + length] = new[:, : min(length, self.size[1] - position)]
