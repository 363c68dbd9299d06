"""Runs a .tflite in a process of its own and answers frames on stdin and stdout, as a board does.

    python -m edge.run.agent MODEL --facts JSON [--kernels xnnpack|reference] [--threads N] [--context N] [--cache DIR]

It needs numpy, LiteRT (or tflite_runtime), what it imports of edge.run, edge.limits and three files of firmware_tools
(frames.py, sampler.py, exp.py), so that a Raspberry Pi needs no more than these. A model that hangs, crashes or wants
too much memory takes only this process with it. stdout carries frames alone: what libraries print goes to stderr. Ticks
are nanoseconds of computing, the KV cache included, sampling not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from edge.run.agent.checked_file import CheckedFile
from edge.run.agent.session import one_line, serve
from edge.run.agent.streams import HeldBack, take_stdout
from edge.run.pi import places

KERNELS = ("reference", "xnnpack")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves frames until stdin ends; returns the exit code."""
    parser = argparse.ArgumentParser(prog="edge.run.agent", description="Answers frames on stdin and stdout.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--facts", required=True, help="JSON: what the host knows of the file")
    parser.add_argument("--kernels", choices=KERNELS, default="xnnpack")
    parser.add_argument("--threads", type=int, default=0, help="0: by the size of the model")
    parser.add_argument("--context", type=int, default=0, help="0: that of the model")
    parser.add_argument("--cache", default="", help="folder of packed weights; none if empty")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the host, which then ends our stdin
    answers, held_back = take_stdout(), HeldBack()
    os.environ.setdefault(
        "OPENBLAS_NUM_THREADS", "1"
    )  # numpy multiplies no matrices here; its threads only take memory
    try:
        facts = json.loads(options.facts)
        checked = CheckedFile(options.model, facts.pop("file_sha256"))
        from edge.run.agent.loading import start  # numpy and LiteRT take as long to import as the file to be hashed

        session = start(options, facts, checked)
    except (ImportError, MemoryError, OSError, RuntimeError, ValueError) as error:
        told = held_back.errors() if isinstance(error, RuntimeError) else ""  # where CompiledModel's reasons go
        held_back.say(f"cannot run {options.model}: {told or one_line(error)}")
        return places.UNUSABLE if isinstance(error, ImportError) else 1
    held_back.release()
    try:
        with contextlib.suppress(BrokenPipeError):
            serve(session, sys.stdin.buffer, answers)
        return 0
    finally:
        if died := sys.exc_info()[1]:
            held_back.say(f"{type(died).__name__}: {died}")
        held_back.hold()  # LiteRT has words at its end, too


if __name__ == "__main__":
    sys.exit(main())
