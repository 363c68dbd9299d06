"""A model file of ours read back as a Checkpoint, so that the oracle can compute with the very weights it holds."""

from __future__ import annotations

import numpy as np

from edge.make.checkpoints import Architecture, Checkpoint
from firmware_tools.graph import Graph, Tensor


def checkpoint(read: Graph) -> Checkpoint:
    """int8 weights become float32 by their scales; the rows of q, k and v are told apart by the sizes in the card."""
    sizes = {name: size for name, size in read.card["architecture"].items() if name not in ("head_dim", "prefill")}
    shape = Architecture(**sizes)
    decode = read.subgraphs[read.signatures["decode"].subgraph]
    constants = {tensor.name: tensor for tensor in decode.tensors if tensor.data is not None}
    used = [decode.tensors[o.inputs[1]] for o in decode.operators if o.op == "FULLY_CONNECTED"]
    head = _floats(used[-1])
    weights = {"final_norm": _floats(constants["final_norm"]), "embedding": head}
    if used[-1].buffer != constants["embedding"].buffer:
        scales = constants["embedding_scales"].data if "embedding_scales" in constants else 1
        weights |= {"head": head, "embedding": (constants["embedding"].data * scales).astype(np.float32)}
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    for layer in range(shape.layers):
        parts = [_floats(tensor) for tensor in used[4 * layer : 4 * layer + 4]]
        q, k, v = np.split(parts[0], [query, query + key])
        gate, up = np.split(parts[2], 2)
        named = {"q": q, "k": k, "v": v, "o": parts[1], "gate": gate, "up": up, "down": parts[3]}
        named |= {norm: _floats(constants[f"{layer}.{norm}"]) for norm in ("attention_norm", "ffn_norm")}
        weights |= {f"{layer}.{name}": weight for name, weight in named.items()}
    return Checkpoint(shape, weights, read.tokenizer, read.card)


def _floats(tensor: Tensor) -> np.ndarray:
    assert tensor.data is not None
    if tensor.quantization is None:
        return np.asarray(tensor.data, np.float32)
    return np.asarray(tensor.data * tensor.quantization.scale[:, None], np.float32)
