"""Steps of ops under AddressSanitizer: a program of this machine that reads them from a file and compares the outputs.

Every array lies in its own block of the heap, exactly as large as it must be.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from kernels import INCLUDES, PORTABLE, kernel_files, source, value

from firmware_tools import ops
from firmware_tools.build import build_host_program

MAIN = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void call(const uint32_t *step, void **values, void *cache, void *workspace);
static FILE *file;

static uint32_t number(void) {
    uint32_t word;
    if (fread(&word, sizeof word, 1, file) != 1) exit(2);
    return word;
}

static void *content(size_t size) {
    void *block = malloc(size);
    if (size && fread(block, size, 1, file) != 1) exit(2);
    return block;
}

static void check_step(call *function, void *cache, uint32_t id, uint32_t n) {
    uint32_t step[3] = {number(), 1, number()}, ins = number(), outs = number();
    void *values[16], *own[16], *workspace = malloc(number());
    for (uint32_t i = 0; i < ins; i++) own[i] = values[i] = content(number());
    for (uint32_t i = ins; i < ins + outs; i++) {
        uint32_t size = number(), place = number(); /* of the value whose memory it takes */
        own[i] = malloc(size);
        values[i] = own[place];
    }
    function(step, values, cache, workspace);
    for (uint32_t i = ins; i < ins + outs; i++) {
        uint32_t size = number();
        void *expected = content(size);
        if (memcmp(values[i], expected, size)) fprintf(stderr, "case %u, step %u: wrong\n", id, n), exit(1);
        free(expected);
    }
    for (uint32_t i = 0; i < ins + outs; i++) free(own[i]);
    free(workspace);
}

int main(int count, char **arguments) {
    call *const calls[] = {CALLS};
    if (count != 2 || !(file = fopen(arguments[1], "rb"))) return 2;
    for (uint32_t id = 0; id < sizeof calls / sizeof *calls; id++) {
        void *cache = malloc(number());
        for (uint32_t n = 0, steps = number(); n < steps; n++) check_step(calls[id], cache, id, n);
        free(cache);
    }
    return fclose(file);
}
"""


def check(cases: Sequence[Any], folder: Path) -> str:
    """What went wrong, or nothing; cases are those of test_ops.py. MissingTool without a compiler that has ASan."""
    calls, lengths = [case.call for case in cases], [(case.ins, case.outs) for case in cases]
    names = [f"call_{i}" for i in range(len(cases))]
    declared = "\n".join(f"void {n}(const uint32_t *step, void **values, void *cache, void *workspace);" for n in names)
    main = MAIN.replace("typedef", f"{declared}\ntypedef", 1).replace("CALLS", ", ".join(names))
    (folder / "calls.c").write_text(source(calls, lengths, PORTABLE), encoding="utf-8")
    (folder / "main.c").write_text(main, encoding="utf-8")
    (folder / "steps").write_bytes(b"".join(part for case in cases for part in _steps(case)))
    files = [folder / "calls.c", folder / "main.c", *kernel_files(PORTABLE)]
    program = build_host_program(files, INCLUDES, folder / "check")
    result = subprocess.run([str(program), str(folder / "steps")], capture_output=True, text=True, check=False)
    return "" if result.returncode == 0 else f"exit code {result.returncode}: {result.stderr[-3000:]}"


def _steps(case: Any) -> Iterator[bytes]:
    """A case as the program reads it."""
    call, ins = case.call, len(case.ins)
    yield _words(ops.cache_bytes(call), len(case.steps))
    for (token, position, inputs), expected in zip(case.steps, case.expected(), strict=True):
        yield _words(position, token, ins, len(case.outs), ops.workspace_bytes(call, PORTABLE))
        for array in inputs:
            yield _words(array.nbytes) + array.tobytes()
        for j, (index, form) in enumerate(zip(call.outputs, case.outs, strict=True)):
            yield _words(value(form).size_bytes, call.inputs.index(index) if index in call.inputs else ins + j)
        for array in expected:
            yield _words(array.nbytes) + array.tobytes()


def _words(*numbers: int) -> bytes:
    return np.array(numbers, np.uint32).tobytes()
