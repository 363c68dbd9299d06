"""The runtimes that compute a .tflite: LiteRT, or tflite_runtime, its last release for 32-bit Raspberry Pis."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

NAMES = ("ai_edge_litert", "tflite_runtime")  # the first that is installed
OLD = "tflite_runtime"
AT_HWCAP, HWCAP_ATOMICS = 16, 1 << 8  # of Linux on aarch64
KERNELS = {"xnnpack": "BUILTIN", "reference": "BUILTIN_REF"}  # names of LiteRT's OpResolverType


@dataclass(frozen=True)
class Runtime:
    """Which runtime was found, and its version."""

    package: str
    version: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


def find_runtime() -> Runtime:
    """The first runtime that is installed; ImportError, with what to do, where none is or it cannot work."""
    for name in NAMES:
        if importlib.util.find_spec(name) is None:
            continue
        runtime, numpy = Runtime(name, importlib.import_module(name).__version__), np.__version__
        if name == OLD and int(numpy.partition(".")[0]) > 1:
            raise ImportError(
                f"{runtime} works with numpy 1 only, and numpy {numpy} is installed: 'numpy<2' is what it needs"
            )
        return runtime
    raise ImportError(f"none of {', '.join(NAMES)} is installed: pip install ai-edge-litert")


def compiles(runtime: Runtime) -> bool:
    """Whether the runtime has CompiledModel here.

    It loads LiteRT's library for GPUs where that is installed, which ends the process on ARM CPUs without atomic
    instructions (Cortex-A53 and A72: Raspberry Pi 3, Zero 2 and 4). `edge deploy` leaves that library out.
    """
    if runtime.package == OLD:
        return False
    if sys.platform != "linux" or platform.machine() != "aarch64":
        return True
    spec = importlib.util.find_spec(runtime.package)
    folders = spec.submodule_search_locations if spec else None
    return _has_atomics() or not any(list(Path(folder).glob("libLiteRt*Accelerator.so")) for folder in folders or [])


def _has_atomics() -> bool:
    ask = ctypes.CDLL(None).getauxval
    ask.argtypes, ask.restype = [ctypes.c_ulong], ctypes.c_ulong
    return bool(ask(AT_HWCAP) & HWCAP_ATOMICS)


def refuse_form(runtime: Runtime, old_form: bool) -> None:
    """ValueError where the runtime would refuse the file or, worse, compute something else without a word.

    old_form: whether the host found that tflite_runtime 2.14 computes the file rightly.
    """
    if runtime.package == OLD and not old_form:
        raise ValueError(
            f"the file is not written for {runtime}; what is: edge convert SOURCE -o MODEL.tflite --runtime 2.14"
        )


def interpreter(path: Path, threads: int, kernels: str, runtime: Runtime) -> Any:
    """The runtime's Interpreter of a file, its tensors allocated."""
    module = importlib.import_module(f"{runtime.package}.interpreter")
    resolver = getattr(module.OpResolverType, KERNELS[kernels])
    source = {"model_path": str(path)} if opens_by_name(path) else {"model_content": path.read_bytes()}
    lite = module.Interpreter(**source, num_threads=threads, experimental_op_resolver_type=resolver)
    lite.allocate_tensors()
    return lite


def compiled(path: Path, threads: int, weight_cache: str, runtime: Runtime) -> tuple[Any, Any]:
    """LiteRT's CompiledModel of a file, for CPUs, and its class TensorBuffer.

    weight_cache: the file of XNNPACK's packed weights, written if it is not there; or "" for copies in memory.
    """
    module = importlib.import_module(f"{runtime.package}.compiled_model")
    options = module.Options(
        hardware_accelerators=module.HardwareAccelerator.CPU,
        cpu_options=module.CpuOptions(num_threads=threads, xnnpack_weight_cache_path=weight_cache or _PACKED_IN_MEMORY),
    )
    if opens_by_name(path):
        return module.CompiledModel.from_file(str(path), options=options), module.TensorBuffer
    return module.CompiledModel.from_buffer(path.read_bytes(), options=options), module.TensorBuffer


# XNNPACK's own name for a cache without a file, where the system has memfd_create. Without it each signature packs a
# copy of all weights: 466 MB instead of 235 for SmolLM2 with two.
_PACKED_IN_MEMORY = ":memory" if sys.platform == "linux" else ""


def opens_by_name(path: Path) -> bool:
    """LiteRT opens paths by their bytes in UTF-8, which on Windows are not those of a name that is not ASCII."""
    if sys.platform == "win32":
        return str(path).isascii()
    with contextlib.suppress(UnicodeEncodeError):
        return bool(str(path).encode())
    return False
