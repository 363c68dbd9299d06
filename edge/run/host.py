"""The target `host`: LiteRT on this machine, in a child process that a bad model may take down without harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import edge
from firmware_tools import graph
from firmware_tools.errors import BadFile
from firmware_tools.link import Clock, Link, PipeTransport

KERNELS = ("xnnpack", "reference")
TICKS = Clock("seconds", 1e-9)


def open_host(model: Path, threads: int | None = None, kernels: str = "xnnpack", context: int | None = None) -> Link:
    """Starts the agent on a model of ours and returns the Link to it.

    Args:
        model: path of the .tflite; verified before anything else opens it.
        threads: of LiteRT; None lets the agent choose by the model's size. Info.raw says which.
        kernels: "xnnpack", or "reference" for TFLite's reference kernels.
        context: positions to use, at most those of the model; None for all.

    Raises:
        BadFile: the file is not a language model of ours.
        LinkError: by the Link, where the child process ends, hangs or cannot load the model.
    """
    facts = facts_of(model, graph.read(model))
    options = ["--facts", json.dumps(facts), "--kernels", kernels]
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


def facts_of(path: Path, model: graph.Graph) -> dict[str, Any]:
    """What the agent is told of the file and repeats in HELLO, as firmware repeats what the compiler wrote into it."""
    if model.contract is None or not {"decode", "prefill"} <= set(model.signatures):
        raise BadFile(f"{path} is not a language model made by edge", "`edge convert` makes one from a checkpoint")
    decode = model.subgraphs[model.signatures["decode"].subgraph]
    constants = {tensor.buffer: tensor.data.nbytes for tensor in decode.tensors if tensor.data is not None}
    scales = {
        tensor.buffer: tensor.quantization.scale.nbytes for tensor in decode.tensors if tensor.quantization is not None
    }
    return {
        "model": model.sha256,
        "file_sha256": model.file_sha256,
        "name": model.card["name"],
        "contract": model.contract,
        "bos_id": model.card["bos_id"],
        "stop_ids": list(model.card["stop_ids"]),
        "kv_heads": model.card["architecture"]["kv_heads"],
        "weight_bytes": sum(constants.values()) + sum(scales.values()),
        "vocabulary_bytes": len(model.tokenizer),
    }
