"""The target `host`: LiteRT on this machine, in a child process that a bad model may take down without harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import edge
from edge.run.agent.weight_cache import host_folder
from firmware_tools import graph, lower
from firmware_tools.errors import BadFile
from firmware_tools.link import Clock, Link, PipeTransport
from firmware_tools.plain_c import described

KERNELS = ("xnnpack", "reference")
OLD_SCHEMES = ("int8", "float16", "float32")  # what `edge convert --runtime 2.14` writes
TICKS = Clock("seconds", 1e-9)


def open_host(
    model: Path,
    threads: int | None = None,
    kernels: str = "xnnpack",
    context: int | None = None,
    signature: str | None = None,
    cache: Path | None = None,
    read: graph.Graph | None = None,
) -> Link:
    """Starts the agent on a model and returns the Link to it.

    Args:
        model: path of the .tflite; verified before anything else opens it.
        threads: of LiteRT; None lets the agent choose by the model's size. Info.raw says which.
        kernels: "xnnpack", or "reference" for TFLite's reference kernels.
        context: of a language model: positions to use, at most those of the model; None for all.
        signature: of any other model, as `lower.entry` chooses.
        cache: folder of packed weights; None for that of this platform.
        read: what is in the file, where that is known: reading a large one takes most of a second.

    Raises:
        UserError: the file has no such signature.
        LinkError: by the Link, where the child process ends, hangs or cannot load the model.
    """
    facts = facts_of(model, read or graph.read(model), signature)
    options = ["--facts", json.dumps(facts), "--kernels", kernels, "--cache", str(cache or host_folder())]
    options += ["--threads", str(threads)] if threads else []
    options += ["--context", str(context)] if context else []
    home = str(Path(edge.__file__).resolve().parent.parent)
    path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        [sys.executable, "-m", "edge.run.agent", str(model), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"},  # nothing of the current folder is imported
    )
    return Link(PipeTransport(process, "LiteRT on this machine"), TICKS)


def facts_of(path: Path, model: graph.Graph, signature: str | None = None) -> dict[str, Any]:
    """What the agent is told of the file and repeats in HELLO, as firmware repeats what the compiler wrote into it."""
    if model.contract is None:
        return _plain_facts(model, signature)
    if not {"decode", "prefill"} <= set(model.signatures):
        raise BadFile(f"{path} is not a language model made by edge", "`edge convert` makes one from a checkpoint")
    return {
        "kind": "decoder",
        "model": model.sha256,
        "file_sha256": model.file_sha256,
        "name": model.card["name"],
        "contract": model.contract,
        "bos_id": model.card["bos_id"],
        "stop_ids": list(model.card["stop_ids"]),
        "kv_heads": model.card["architecture"]["kv_heads"],
        "open_cache": -1 in model.signatures["decode"].inputs["k_0"].shape_signature,
        "old_form": old_form(model),
        "weight_bytes": _constant_bytes(model.subgraphs[model.signatures["decode"].subgraph]),
        "vocabulary_bytes": len(model.tokenizer),
    }


def old_form(model: graph.Graph) -> bool:
    """Whether tflite_runtime 2.14 computes the file rightly, as far as its form tells; what else it lacks it refuses.

    It takes one scale for all rows of an int8 matrix between floats, knows no smaller weights, and says nothing.
    """
    if model.contract and model.card["quantization"] not in OLD_SCHEMES:
        return False
    for subgraph in model.subgraphs:
        for operator in subgraph.operators:
            if operator.op == "FULLY_CONNECTED":
                row, weights = (subgraph.tensors[index] for index in operator.inputs[:2])
                scales = 1 if weights.quantization is None else weights.quantization.scale.size
                if weights.dtype == "int4" or (row.dtype == "float32" and scales > 1):
                    return False
    return True


def _constant_bytes(subgraph: graph.Subgraph) -> int:
    """What a subgraph's constants and their scales take, shared ones once."""
    constants = {tensor.buffer: tensor.data.nbytes for tensor in subgraph.tensors if tensor.data is not None}
    scales = {
        tensor.buffer: tensor.quantization.scale.nbytes
        for tensor in subgraph.tensors
        if tensor.data is not None and tensor.quantization is not None
    }
    return sum(constants.values()) + sum(scales.values())


def _plain_facts(model: graph.Graph, signature: str | None) -> dict[str, Any]:
    """Of a model that is no language model of ours; signature only where it is not the main way in."""
    entry = lower.entry(model, signature)
    inputs, outputs = lower.borders(model, entry)
    way = {"name": entry.signature, "inputs": [b.name for b in inputs], "outputs": [b.name for b in outputs]}
    return {
        "kind": "plain",
        "model": model.sha256,
        "file_sha256": model.file_sha256,
        "name": model.name,
        "inputs": described(inputs),
        "outputs": described(outputs),
        "signature": way if entry.number else None,
        "old_form": old_form(model),
        "weight_bytes": _constant_bytes(entry.subgraph),
        "vocabulary_bytes": 0,
        "kv_cache_bytes": None,
    }
