"""A model as C for somebody else's firmware: in a foreign CMake project, an Arduino library, a Zephyr module."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
from cortex import GCC, GCC_M4, M4_GCC, Cortex
from native import same_bits

from edge import zoo
from edge.make.convert import convert
from firmware_tools import fuse, graph, interpret, library
from firmware_tools.errors import UserError

COUNT = 11
HOSTILE = '*/ #error "\n'

# a firmware of somebody else: two models side by side, tokens one by one in the one and at once in the other
MAIN = """
#include <stdio.h>
#include <one.h>
#include <two.h>
static _Alignas(16) unsigned char first[ONE_MEMORY_BYTES], second[TWO_MEMORY_BYTES];
int main(void) {
    static const uint32_t ids[] = {@IDS@};
    enum { COUNT = sizeof ids / sizeof *ids };
    one_state one;
    two_state two;
    one_sampler sampler = {1.0f, 0.9f, 0};
    if (one_init(&one, first, 1) != ONE_TOO_LITTLE_MEMORY) return 1;
    if (one_init(&one, first + 1, sizeof first) != ONE_MISALIGNED) return 1;
    if (one_init(&one, first, sizeof first) || two_init(&two, second, sizeof second)) return 2;
    if (one_decode(&one, ONE_VOCAB_SIZE) != ONE_NO_SUCH_TOKEN) return 3;
    if (one_prefill(&one, ids, 0) != ONE_NOTHING_TO_DO) return 3;
    if (one_prefill(&one, ids, ONE_CONTEXT + 1) != ONE_CONTEXT_FULL || one.position != 0) return 4;
    if (two_prefill(&two, ids, COUNT)) return 5;
    for (int i = 0; i < COUNT; i++)
        if (one_decode(&one, ids[i])) return 6;
    for (unsigned i = 0; i < ONE_VOCAB_SIZE; i++) printf("%a %a\\n", one_logits(&one)[i], two_logits(&two)[i]);
    one_seed(&sampler, 7);
    if (one_sample(&one, &sampler) >= ONE_VOCAB_SIZE) return 7;
    two_rewind(&two, 3);
    if (two.position != 3 || two_prefill(&two, ids + 3, COUNT - 3)) return 8;
    for (unsigned i = 0; i < ONE_VOCAB_SIZE; i++)
        if (one_logits(&one)[i] != two_logits(&two)[i]) return 9;
    uint16_t encoded[8];
    size_t bytes, length = one_encode("abc", 3, encoded, 8);
    for (size_t i = 0; i < length; i++) fwrite(one_piece(encoded[i], &bytes), 1, 0, stdout);
    return ONE_CAN_ENCODE && length == 0 ? 10 : 0;
}
"""
CMAKE = """
cmake_minimum_required(VERSION 3.20)
project(firmware C)
add_subdirectory(one)
add_subdirectory(two)
add_executable(firmware main.c)
target_link_libraries(firmware PRIVATE one two)
set_target_properties(firmware PROPERTIES C_STANDARD 11)
target_compile_options(firmware PRIVATE -Wall -Wextra -Werror)
"""
# the functions of Zephyr's build that a module uses, by its documentation, for a project without the SDK
ZEPHYR = """
cmake_minimum_required(VERSION 3.20)
project(zephyr C)
set(ZEPHYR_BASE somewhere)
set(CONFIG_MODEL y)
macro(zephyr_library_named name)
  set(current ${name})
  add_library(${name} STATIC)
endmacro()
function(zephyr_library_sources)
  target_sources(${current} PRIVATE ${ARGN})
endfunction()
function(zephyr_library_compile_options)
  target_compile_options(${current} PRIVATE ${ARGN})
endfunction()
function(zephyr_include_directories)
  target_include_directories(${current} PUBLIC ${ARGN})
endfunction()
add_subdirectory(module)
add_executable(app app.c)
target_link_libraries(app model)
"""
APP = """
#include <model.h>
int main(void) {
    static _Alignas(16) uint8_t memory[MODEL_MEMORY_BYTES];
    model_state state;
    return model_init(&state, memory, sizeof memory) || model_decode(&state, 1);
}
"""


# all of a prompt at once, for a core that runs functions one by one
CALL_RUN = """
#include "model.h"
int call_run(void *memory, const uint32_t *ids, uint32_t count, float *logits) {
    model_state state;
    int failed = model_init(&state, memory, MODEL_MEMORY_BYTES) || model_prefill(&state, ids, count);
    for (uint32_t i = 0; i < MODEL_VOCAB_SIZE; i++) logits[i] = model_logits(&state)[i];
    return failed;
}
"""


def memory_bytes(source: Path) -> int:
    header = (source / "model.h").read_text(encoding="utf-8")
    return int(re.search(r"MODEL_MEMORY_BYTES (\d+)u", header)[1])  # type: ignore[index]


def model(name: str = "tiny") -> graph.Graph:
    template = {"before": "Q: ", "after": name}
    return graph.read(convert(tiny.checkpoint(context=24, card={"name": name, "template": template})))


def ids(read: graph.Graph) -> list[int]:
    return [int(t) for t in np.random.default_rng(5).integers(0, read.card["architecture"]["vocab_size"], COUNT)]


def expected(read: graph.Graph) -> np.ndarray:
    program = fuse.program(read)
    run = interpret.start(program)
    return [interpret.step(program, run, token, position) for position, token in enumerate(ids(read))][-1]


def cmake(*arguments: str | Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "cmake", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-1500:] + result.stderr[-3000:]


def configure(source: Path, *arguments: str) -> Path:
    """Configures and builds a CMake project; its build folder."""
    folder = source / "build"
    cmake("-S", source, "-B", folder, "-G", "Unix Makefiles", *arguments)
    cmake("--build", folder)
    return folder


@pytest.mark.system
def test_two_models_in_a_foreign_project(tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("cc"), tool("make")
    read = model(HOSTILE)
    for prefix in ("one", "two"):
        library.save(library.build_library(read, "generic", prefix), tmp_path / prefix)
    (tmp_path / "main.c").write_text(MAIN.replace("@IDS@", ", ".join(map(str, ids(read)))), encoding="utf-8")
    (tmp_path / "CMakeLists.txt").write_text(CMAKE, encoding="utf-8")
    program = configure(tmp_path) / "firmware"
    result = subprocess.run([str(program)], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    rows = [[float.fromhex(word) for word in line.split()] for line in result.stdout.splitlines()]
    for column in np.array(rows, np.float32).T:
        assert same_bits(np.ascontiguousarray(column), expected(read))


@pytest.mark.system
def test_the_program_of_the_docs(tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("cc"), tool("make")
    page = (Path(__file__).parent.parent / "docs" / "library.md").read_text(encoding="utf-8")
    program = page[page.index("```c\n") + 5 : page.index("```\n\nA prompt")]
    main = "static void print(const uint8_t *piece, size_t bytes) { fwrite(piece, 1, bytes, stdout); }\n"
    (tmp_path / "main.c").write_text(f"#include <stdio.h>\n{program}{main}int main(void) {{ turn_on(print); }}\n")
    library.save(library.build_library(graph.read(zoo.find("intent")), "generic", "intent"), tmp_path / "one")
    lines = [line for line in CMAKE.splitlines() if "two)" not in line or "link" in line]
    (tmp_path / "CMakeLists.txt").write_text("\n".join(lines).replace("one two", "intent"), encoding="utf-8")
    result = subprocess.run([str(configure(tmp_path) / "firmware")], capture_output=True, text=True, check=False)
    assert result.stdout == "light_set room=kitchen level=20"


@pytest.mark.system
def test_on_a_cortex_by_gcc_as_arduino_builds(tmp_path: Path, tool: Callable[[str], str]) -> None:
    """Arduino compiles every .c below src with src alone as include folder, for size, and sketches are C++."""
    tool(GCC[0])
    read = model()
    library.save(library.build_library(read, "cortex-m4", "model"), tmp_path / "Model")
    source = tmp_path / "Model" / "src"
    sketch = tmp_path / "sketch.cpp"
    sketch.write_text("#include <model.h>\nint size() { return MODEL_MEMORY_BYTES; }\n", encoding="utf-8")
    flags = ["-Wall", "-Wextra", "-Werror", "-Os", f"-I{source}", "-c"]
    command = ["arm-none-eabi-g++", "-mthumb", *GCC_M4, "-std=gnu++17", *flags, str(sketch), "-o"]
    subprocess.run([*command, str(tmp_path / "sketch.o")], check=True)
    (tmp_path / "calls.c").write_text(CALL_RUN, encoding="utf-8")
    core = Cortex(M4_GCC, [tmp_path / "calls.c", *sorted(source.rglob("*.c"))], [source], tmp_path)
    tokens = np.array(ids(read), np.uint32)
    logits = core.put(bytes(4 * expected(read).size))
    core.call("call_run", core.put(b"\xa5" * memory_bytes(source)), core.put(tokens.tobytes()), COUNT, logits)
    assert same_bits(np.frombuffer(core.get(logits, 4 * expected(read).size), np.float32), expected(read))


@pytest.mark.system
def test_a_zephyr_module(tmp_path: Path, tool: Callable[[str], str]) -> None:
    tool("cc"), tool("make")
    library.save(library.build_library(model(), "generic", "model"), tmp_path / "module")
    (tmp_path / "CMakeLists.txt").write_text(ZEPHYR, encoding="utf-8")
    (tmp_path / "app.c").write_text(APP, encoding="utf-8")
    assert subprocess.run([str(configure(tmp_path) / "app")], check=False).returncode == 0
    described = (tmp_path / "module" / "zephyr" / "module.yml").read_text(encoding="utf-8")
    assert described == "name: model\nbuild:\n  cmake: .\n  kconfig: zephyr/Kconfig\n"


@pytest.mark.system
def test_nothing_is_variable_and_all_names_have_the_prefix(tmp_path: Path, tool: Callable[[str], str]) -> None:
    nm = tool("arm-none-eabi-nm")
    library.save(library.build_library(model(), "cortex-m4", "mine"), tmp_path)
    objects = []
    for path in sorted((tmp_path / "src").rglob("*.c")):
        objects.append(path.with_suffix(".o"))
        flags = ["-std=c11", "-O2", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-Werror"]
        subprocess.run(
            [GCC[0], "-mthumb", *GCC_M4, *flags, f"-I{tmp_path / 'src'}", "-c", str(path), "-o", str(objects[-1])],
            check=True,
        )
    symbols = subprocess.run([nm, *map(str, objects)], capture_output=True, text=True, check=True).stdout
    kinds = [(kind, name) for kind, name in re.findall(r" ([A-Za-z]) (\S+)$", symbols, re.MULTILINE)]
    assert len(kinds) > 30
    assert not [name for kind, name in kinds if kind in "BbDdCSs"], "a variable"
    assert not [name for kind, name in kinds if kind in "TR" and not name.startswith("mine_")]
    foreign = {name for kind, name in kinds if kind == "U" and not name.startswith("mine_")}
    assert {name for name in foreign if not name.startswith("__aeabi_")} <= {"memcpy", "memset"}


def test_a_hostile_name_stays_outside() -> None:
    """Of a file's strings the template enters the header, as an escaped literal, and no other."""
    files = library.build_library(model("\x1b[2J*/\nevil"), "generic", "model")
    assert '#define MODEL_AFTER "\\033[2J*/\\012evil"' in files["src/model.h"]
    for name, text in files.items():
        assert len(re.findall(r"\\\d\d\devil", text)) == text.count("evil") and "\x1b" not in text
        assert "evil" not in text or name in ("src/model.h", "src/internal/model.c")


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no library can be built for 'cortex-m99'"):
        library.build_library(model(), "cortex-m99", "model")
    with pytest.raises(UserError, match="cannot begin names in C"):
        library.build_library(model(), "generic", "1st")
    (tmp_path / "precious.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(UserError, match="is not a library"):
        library.save({"a": "b"}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_a_library_is_replaced(tmp_path: Path) -> None:
    files = library.build_library(model(), "generic", "model")
    library.save(files, tmp_path / "made")
    (tmp_path / "made" / "stale.c").write_text("", encoding="utf-8")
    library.save(files, tmp_path / "made")
    written = {p.relative_to(tmp_path / "made").as_posix() for p in (tmp_path / "made").rglob("*") if p.is_file()}
    assert written == set(files) and [path.name for path in tmp_path.iterdir()] == ["made"]
