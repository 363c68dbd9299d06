"""A conversion in a child process: a framework that crashes, prints or runs out of memory there ends in one error here.

    parent    converted(stem, path, request) -> bytes
    child     python -m edge.make.checkpoints.STEM JOB.json, which calls serve(convert): JOB.json holds the source, the
              request, and a folder for the model or the error

The child's own words go to a file; of them the last line is told where it ends without an answer.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edge
from edge.limits import set_limits
from edge.make.checkpoints import Request
from edge.terminal import one_line, waiting
from firmware_tools.errors import BadFile, MissingTool, UserError

SPARE_BYTES = 8 << 30  # address space beyond what the source's size explains
KINDS: dict[str, type[UserError]] = {kind.__name__: kind for kind in (BadFile, MissingTool, UserError)}
ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # sums in one order, so that the same source gives the same file
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "PYTHONSAFEPATH": "1",  # nothing of the current folder is imported
}


def converted(stem: str, path: Path, request: Request) -> bytes:
    """What the stem's `serve` makes of a source in a process of its own; UserError where that fails."""
    with tempfile.TemporaryDirectory(prefix="edge-") as name, waiting(f"converting {one_line(path.name)}"):
        folder = Path(name)
        job = {"source": str(path.resolve()), "name": str(path), "request": dataclasses.asdict(request)}
        (folder / "job.json").write_text(json.dumps({**job, "folder": name}), encoding="utf-8")
        home = str(Path(edge.__file__).resolve().parent.parent)
        paths = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"edge.make.checkpoints.{stem}", str(folder / "job.json")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **ENVIRONMENT, "PYTHONPATH": paths},
            )
            try:
                process.wait()
            finally:
                process.kill()
                process.wait()
        return _answer(folder, path, process.returncode)


def _answer(folder: Path, path: Path, code: int) -> bytes:
    error, model = folder / "error.json", folder / "model.tflite"
    if error.is_file():
        told = json.loads(error.read_text(encoding="utf-8"))
        raise KINDS[told["kind"]](told["message"], told["hint"])
    if code == 0 and model.is_file():
        return model.read_bytes()
    lines = (folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
    last = next((one_line(line) for line in reversed(lines) if line.strip()), "it said nothing")
    hint = "try another --quantize; `edge convert` itself is unharmed"
    raise BadFile(f"the converter of {path} ended with exit code {code}: {last[:300]}", hint)


def serve(convert: Callable[[Path, str, Request], bytes], source_bytes: Callable[[Path], int]) -> None:
    """The child's side: convert(source, its name for messages, request), and a UserError goes back to the parent."""
    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder, source = Path(job["folder"]), Path(job["source"])
    fields = job["request"]
    request = Request(fields["scheme"], tuple(fields["calibrate"]), fields["signature"])
    try:
        set_limits(SPARE_BYTES + 64 * source_bytes(source))
        (folder / "model.tflite").write_bytes(convert(source, job["name"], request))
    except UserError as error:
        kind = next(name for name, kind in KINDS.items() if isinstance(error, kind))
        told = {"kind": kind, "message": error.message, "hint": error.hint}
        (folder / "error.json").write_text(json.dumps(told), encoding="utf-8")
        sys.exit(1)
