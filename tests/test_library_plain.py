"""A plain model as C for somebody else's firmware: on this machine, and on a Cortex-M4 as Arduino builds it."""

from __future__ import annotations

import ctypes
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import plain_models
import pytest
from cortex import GCC, GCC_M4, M4_GCC, Cortex
from native import same_bits
from plain_models import Lite, stored
from test_lstm import SIZES, lstm_model

from firmware_tools import graph, interpret, library, lower
from firmware_tools.build import build_host
from firmware_tools.errors import UserError

# two inferences; between them what the model keeps is forgotten where that is asked for
CALL_RUN = """
#include <string.h>
#include "mine.h"
int call_run(void *memory, const void *input, void *outputs, int forget) {
    mine_state state;
    if (mine_init(&state, memory, 1) != MINE_TOO_LITTLE_MEMORY) return 1;
    if (mine_init(&state, (char *)memory + 1, MINE_MEMORY_BYTES) != MINE_MISALIGNED) return 2;
    if (mine_init(&state, memory, MINE_MEMORY_BYTES)) return 3;
    for (int i = 0; i < 2; i++) {
        size_t bytes = MINE_OUTPUT_0_ELEMENTS * sizeof *mine_output_0(&state);
        memcpy(mine_input_0(&state), input, MINE_INPUT_0_ELEMENTS * sizeof *mine_input_0(&state));
        mine_run(&state);
        memcpy((char *)outputs + i * bytes, mine_output_0(&state), bytes);
        if (forget) mine_reset(&state);
    }
    return 0;
}
"""
FREESTANDING = "#include <stddef.h>\nvoid *memcpy(void *, const void *, size_t);\n"
CLASSIFIER = plain_models.classifier()


def written(content: bytes, core: str, folder: Path) -> Path:
    """The folder `src` of a library with the prefix `mine`."""
    library.save(library.build_library(graph.read(content), core, "mine"), folder / "mine")
    return folder / "mine" / "src"


def memory_bytes(source: Path) -> int:
    header = (source / "mine.h").read_text(encoding="utf-8")
    return int(re.search(r"MINE_MEMORY_BYTES (\d+)u", header)[1])  # type: ignore[index]


def test_on_this_machine(tmp_path: Path) -> None:
    """Portable C under UBSan, in memory that was used before."""
    source = written(CLASSIFIER, "generic", tmp_path)
    (tmp_path / "calls.c").write_text(f"int call_run(void *, const void *, void *, int);{CALL_RUN}", encoding="utf-8")
    files = [tmp_path / "calls.c", *sorted(source.rglob("*.c"))]
    built = ctypes.CDLL(str(build_host(files, [source], tmp_path / "mine.so", sanitize=True)))
    memory = np.full(memory_bytes(source) + 16, 0xA5, np.uint8)
    memory = memory[-memory.ctypes.data % 16 :]
    for seed in range(5):
        x, outputs = stored((1, 8, 6, 1), seed), np.zeros((2, 5), np.int8)
        pointers = (ctypes.c_void_p(array.ctypes.data) for array in (memory, x, outputs))
        assert built.call_run(*pointers, 0) == 0
        (expected,) = Lite(CLASSIFIER).run(x)
        assert same_bits(outputs, np.concatenate([expected, expected]))


@pytest.mark.system
@pytest.mark.parametrize("name", ["classifier", "lstm"])
def test_on_a_cortex_by_gcc_as_arduino_builds(name: str, tmp_path: Path, tool: Callable[[str], str]) -> None:
    """Every .c below src with src alone as include folder, for size; sketches are C++."""
    tool(GCC[0])
    content = CLASSIFIER if name == "classifier" else lstm_model(0, SIZES[0], "int8")
    source = written(content, "cortex-m4", tmp_path)
    (tmp_path / "sketch.cpp").write_text(
        "#include <mine.h>\nsigned char first(mine_state *s) { return mine_output_0(s)[0]; }\n", encoding="utf-8"
    )
    flags = ["-Wall", "-Wextra", "-Werror", "-Os", f"-I{source}", "-c", str(tmp_path / "sketch.cpp"), "-o"]
    command = ["arm-none-eabi-g++", "-mthumb", *GCC_M4, "-std=gnu++17", *flags, str(tmp_path / "sketch.o")]
    subprocess.run(command, check=True)
    (tmp_path / "calls.c").write_text(CALL_RUN.replace("#include <string.h>", FREESTANDING), encoding="utf-8")
    core = Cortex(M4_GCC, [tmp_path / "calls.c", *sorted(source.rglob("*.c"))], [source], tmp_path)
    program = lower.program(graph.read(content))
    model, x = interpret.Plain(program), stored(program.borders_in[0].shape, 0)
    first, second = model.invoke([x])[0], model.invoke([x])[0]
    for forget, expected in ((1, [first, first]), (0, [first, second])):
        core.release()
        outputs = core.put(bytes(2 * first.size))
        arguments = (core.put(b"\xa5" * memory_bytes(source)), core.put(x.tobytes()), outputs, forget)
        core.call("call_run", *arguments)
        assert core.get(outputs, 2 * first.size) == b"".join(array.tobytes() for array in expected)


@pytest.mark.system
def test_nothing_is_variable_and_all_names_have_the_prefix(tmp_path: Path, tool: Callable[[str], str]) -> None:
    nm = tool("arm-none-eabi-nm")
    source = written(CLASSIFIER, "cortex-m4", tmp_path)
    objects = []
    for path in sorted(source.rglob("*.c")):
        objects.append(path.with_suffix(".o"))
        flags = ["-std=c11", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", f"-I{source}", "-c"]
        subprocess.run([GCC[0], "-mthumb", *GCC_M4, *flags, str(path), "-o", str(objects[-1])], check=True)
    symbols = subprocess.run([nm, *map(str, objects)], capture_output=True, text=True, check=True).stdout
    kinds = [(kind, name) for kind, name in re.findall(r" ([A-Za-z]) (\S+)$", symbols, re.MULTILINE)]
    assert len(kinds) > 10
    assert not [name for kind, name in kinds if kind in "BbDdCSs"], "a variable"
    assert not [name for kind, name in kinds if kind in "TR" and not name.startswith("mine_")]


def test_the_program_of_the_docs(tmp_path: Path) -> None:
    """Compiles, and finds the class that the reference kernels do; the docs' model is any with one int8 input."""
    page = (Path(__file__).parent.parent / "docs" / "library.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```c\n(#include <kws.h>.*?)```", page, re.DOTALL)
    library.save(library.build_library(graph.read(CLASSIFIER), "generic", "kws"), tmp_path / "kws")
    declared = "int classify(const signed char *);\n"
    (tmp_path / "main.c").write_text(declared + program, encoding="utf-8")
    files = [tmp_path / "main.c", *sorted((tmp_path / "kws" / "src").rglob("*.c"))]
    built = ctypes.CDLL(str(build_host(files, [tmp_path / "kws" / "src"], tmp_path / "kws.so")))
    for seed in range(5):
        x = stored((1, 8, 6, 1), seed)
        assert built.classify(ctypes.c_void_p(x.ctypes.data)) == np.argmax(Lite(CLASSIFIER).run(x)[0])


def test_the_header_tells_all_of_every_border() -> None:
    header = library.build_library(graph.read(plain_models.two_inputs()), "generic", "mine")["src/mine.h"]
    for line in (
        "#define MINE_INPUTS 2",
        "#define MINE_OUTPUTS 2",
        "#define MINE_INPUT_1_ELEMENTS 8u /* int8_t [1, 8] */",
        "#define MINE_OUTPUT_0_ZERO_POINT (3)",
        "#define MINE_KEPT_BYTES 0u",
    ):
        assert line in header
    scales = [np.float32(text) for text in re.findall(r"_SCALE ([\d.]+)f", header)]
    assert scales == [np.float32(0.05)] * 2 + [np.float32(0.3)] * 2


def test_strings_of_the_file_stay_outside() -> None:
    maker = plain_models.Maker()
    maker.tensor("*/ evil", "int8", (1, 8), 0.05)
    plain_models.connected(maker, "*/ evil", "evil too", (2, 8), 0, 0.3)
    content = maker.content(("*/ evil",), ("evil too",), signatures=("evil",))
    files = library.build_library(graph.read(content), "generic", "mine")
    assert not [name for name, text in files.items() if "evil" in text]


def test_signatures_choose() -> None:
    several = graph.read(plain_models.classifier(signatures=("day", "night")))
    with pytest.raises(UserError, match="2 signatures"):
        library.build_library(several, "generic", "mine")
    assert "src/mine.h" in library.build_library(several, "generic", "mine", signature="night")
