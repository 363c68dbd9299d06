"""Sources + Board -> Image; refuses what does not fit, and says by how many bytes. A toolchain compiles and links.

The same sources and toolchain give the same bytes on every machine: all files are compiled under relative names in one
folder, and nothing that is linked knows a path or a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from firmware_tools import boards, elf, instructions, linker, stack, toolchains
from firmware_tools.errors import BadFile, DoesNotFit, MissingTool, UserError
from firmware_tools.folder import replace
from firmware_tools.toolchains import zig

if TYPE_CHECKING:
    from firmware_tools.boards import Board
    from firmware_tools.compile import Sources

SCHEMA = 1
RUNTIME = Path(__file__).parent / "runtime"
STARTUP = RUNTIME / "startup.c"
SHARED = tuple(RUNTIME / f"{name}.c" for name in ("frames", "lines", "main", "session", "startup"))
WARNINGS = ("-Wall", "-Wextra", "-Werror")
# every float operation rounds by itself, so that numpy can follow: no fused multiply-add
LANGUAGE = ("-std=c11", "-ffp-contract=off")
FREESTANDING = (
    "-ffreestanding",
    "-fomit-frame-pointer",
    "-fno-math-errno",  # so that the square root is one instruction
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-ffunction-sections",
    "-fdata-sections",
)
# -Os also decides how large zig's own library becomes
LINK = ("-Os", "-nostartfiles", "-Wl,--gc-sections", "-Wl,-e,edge_reset", "-Wl,-T,image.ld")


HINTS = {
    "decoder": "a smaller --context needs less RAM, int8 weights less flash; `edge inspect` shows which boards it fits",
    "plain": "int8 weights and values need less of both; `edge inspect` shows which boards it fits",
}


@dataclass(frozen=True)
class Sizes:
    """What an image takes, in bytes.

    code is all flash but weights and vocabulary: instructions, tables and the first content of data. stack is what the
    board reserves; stack_deepest the most that the call graph can need, None where that has no bound. input_bytes of a
    plain model are its inputs as the host gave them; its kv_cache_bytes all that it keeps between inferences.
    """

    code_bytes: int
    weight_bytes: int
    vocabulary_bytes: int
    data_bytes: int
    bss_bytes: int
    arena_bytes: int
    kv_cache_bytes: int
    stack_bytes: int
    stack_deepest_bytes: int | None
    flash_bytes: int
    ram_bytes: int
    input_bytes: int = 0


@dataclass(frozen=True)
class Facts:
    """Whose model an image holds, and which toolchain of which version made it.

    can_encode tells whether the model's tokenizer runs on the device.
    """

    board: str
    toolchain: str
    name: str
    model_sha256: str
    model_file_sha256: str
    context: int
    vocab_size: int
    can_encode: bool
    kind: str = "decoder"


@dataclass(frozen=True)
class Image:
    """Firmware for one board.

    elf: the linked file; segments: (address in flash, bytes) in order of addresses; files: the sources by their paths
    below `src/`, with `/`; sha256: of the ELF file.
    """

    facts: Facts
    sizes: Sizes
    elf: bytes = field(repr=False)
    entry: int
    segments: tuple[tuple[int, bytes], ...] = field(repr=False)
    files: Mapping[str, str] = field(repr=False)
    sha256: str

    @property
    def board(self) -> str:
        return self.facts.board

    def flash_content(self) -> bytes:
        """What flash holds from its start on, gaps as erased (0xFF)."""
        start = self.segments[0][0]
        content = bytearray()
        for address, part in self.segments:
            content += b"\xff" * (address - start - len(content)) + part
        return bytes(content)


def build(
    sources: Sources,
    board: Board,
    folder: Path | None = None,
    *,
    bare: bool = False,
    toolchain: str = toolchains.DEFAULT,
) -> Image:
    """Compiles and links sources with the runtime and the board's port functions.

    folder, where given, keeps the sources, objects and linker script; it may exist. bare: of the runtime only the
    startup, for sources with a main of their own. toolchain: a stem of toolchains/.
    Raises DoesNotFit naming region and bytes missing, MissingTool without the toolchain, UserError where C is refused
    or has become an instruction that the board's core lacks.
    """
    tools = toolchains.load(toolchain)
    compiler = tools.command(board)
    files = _source_files(sources, board, (STARTUP,) if bare else runtime(sources.kind))
    with _workplace(folder) as place, _workplace(None) as cache:
        for name, text in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text, encoding="utf-8", newline="\n")
        (place / "image.ld").write_text(linker.script(board), encoding="utf-8", newline="\n")
        objects = _compile(files, sources, [*compiler, *tools.COMPILE], place, cache)
        _run([*compiler, *LINK, *tools.LINK, *objects, *tools.LIBRARIES, "-o", "image.elf"], place, cache)
        linked = (place / "image.elf").read_bytes()
    facts = Facts(
        board=board.name,
        toolchain=tools.version(),
        name=sources.name,
        model_sha256=sources.model_sha256,
        model_file_sha256=sources.model_file_sha256,
        context=sources.context,
        vocab_size=sources.vocab_size,
        can_encode=sources.can_encode,
        kind=sources.kind,
    )
    parts = elf.read(linked)
    instructions.refuse_foreign(parts, board)
    sizes = _sizes(parts, sources, board)
    _refuse_what_does_not_fit(sizes, facts, board)
    return Image(facts, sizes, linked, parts.entry, parts.segments, files, hashlib.sha256(linked).hexdigest())


def runtime(kind: str) -> tuple[Path, ...]:
    """The C files of the runtime for a kind of model: what all share, and what is its own."""
    own = RUNTIME.glob("*.c") if kind == "decoder" else (RUNTIME / kind).glob("*.c")
    return tuple(sorted({*SHARED, *own}))


def save(image: Image, folder: Path) -> None:
    """Writes image.elf, image.bin (flash content), image.json (facts and sizes) and src/ into folder, all or nothing.

    An image that lies there already is replaced; UserError where the folder holds anything else or cannot be written.
    """

    def is_ours(there: Path) -> bool:
        return (there / "image.json").exists()

    replace(folder, "a firmware image", is_ours, lambda new: _write_image(image, new))


def load(folder: Path) -> Image:
    """Reads what `save` wrote; BadFile where it is missing, damaged or does not match its hash."""
    try:
        described = json.loads((folder / "image.json").read_text(encoding="utf-8"))
        linked = (folder / "image.elf").read_bytes()
        if described["schema"] != SCHEMA:
            raise BadFile(f"{folder} was built by another version", "build it again with `edge build`")
        facts = Facts(**described["facts"])
        sizes = Sizes(**described["sizes"])
        expected = described["sha256"]
        source_folder = folder / "src"
        paths = sorted(path for path in source_folder.rglob("*") if path.is_file())
        files = {path.relative_to(source_folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFile(f"{folder} is not a firmware image", "make one with `edge build`") from error
    if hashlib.sha256(linked).hexdigest() != expected:
        raise BadFile(f"{folder / 'image.elf'} is damaged: its hash is not the one in image.json", "build it again")
    parts = elf.read(linked)
    return Image(facts, sizes, linked, parts.entry, parts.segments, files, expected)


def _write_image(image: Image, folder: Path) -> None:
    for name, text in image.files.items():
        path = folder / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    (folder / "image.elf").write_bytes(image.elf)
    (folder / "image.bin").write_bytes(image.flash_content())
    described = {"schema": SCHEMA, "sha256": image.sha256, "facts": asdict(image.facts), "sizes": asdict(image.sizes)}
    (folder / "image.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8", newline="\n")


def _source_files(sources: Sources, board: Board, runtime: Sequence[Path]) -> dict[str, str]:
    """All that is compiled or included, by its path below `src/`."""
    port = boards.port_source(board.name)
    paths = {f"{port.parent.name}/{port.name}": port}
    folders = {port.parent, RUNTIME, *sources.includes}
    for folder in folders:
        paths |= {f"{folder.name}/{path.name}": path for path in folder.glob("*.h")}
    paths |= {f"{path.parent.name}/{path.name}": path for path in (*runtime, *sources.kernels)}
    copied = {name: path.read_text(encoding="utf-8") for name, path in paths.items()}
    return dict(sorted((copied | dict(sources.files)).items()))


def _compile(
    files: Mapping[str, str], sources: Sources, compiler: Sequence[str], place: Path, cache: Path
) -> list[str]:
    """Compiles every .c of files, several at a time; kernels and model for speed, the rest for size."""
    fast = {*sources.files, *(f"{path.parent.name}/{path.name}" for path in sources.kernels)}
    folders = sorted({name.rpartition("/")[0] or "." for name in files})
    includes = [f"-I{folder}" for folder in folders]
    flags = [*LANGUAGE, *WARNINGS, *FREESTANDING, *includes]
    names = [name for name in files if name.endswith(".c")]
    objects = [name[: -len(".c")] + ".o" for name in names]
    commands = [
        [*compiler, *flags, "-O2" if name in fast else "-Os", "-c", name, "-o", target]
        for name, target in zip(names, objects, strict=True)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda command: _run(command, place, cache), commands))
    return objects


def _sizes(parts: elf.Elf, sources: Sources, board: Board) -> Sizes:
    size = {name: parts.section_bytes(name) for name in (*linker.SECTIONS_IN_FLASH, *linker.SECTIONS_IN_RAM)}
    strange = [s.name for s in parts.sections if s.in_memory and s.size_bytes and s.name not in size]
    if strange:
        raise UserError(f"the image has sections that the linker script does not place: {', '.join(strange)}")
    end = max((address + len(content) for address, content in parts.segments), default=board.flash.start)
    flash_bytes = end - board.flash.start
    in_ram = [s.address + s.size_bytes for s in parts.sections if s.in_memory and s.name in linker.SECTIONS_IN_RAM]
    return Sizes(
        code_bytes=flash_bytes - size[".weights"] - size[".vocabulary"],
        weight_bytes=size[".weights"],
        vocabulary_bytes=size[".vocabulary"],
        data_bytes=size[".data"],
        bss_bytes=size[".bss"],
        arena_bytes=sources.arena_bytes,
        kv_cache_bytes=sources.kv_cache_bytes,
        stack_bytes=board.stack_bytes,
        stack_deepest_bytes=stack.deepest(parts, "edge_reset"),
        flash_bytes=flash_bytes,
        ram_bytes=max(in_ram, default=board.ram.start) - board.ram.start,
        input_bytes=sources.input_bytes,
    )


def _refuse_what_does_not_fit(sizes: Sizes, facts: Facts, board: Board) -> None:
    missing = [
        f"{needed - given:,} bytes of {region} are missing (it needs {needed:,}, the board has {given:,})"
        for region, needed, given in (
            ("flash", sizes.flash_bytes, board.flash.size_bytes),
            ("RAM", sizes.ram_bytes, board.ram.size_bytes),
            ("stack", sizes.stack_deepest_bytes or 0, board.stack_bytes),
        )
        if needed > given
    ]
    if missing:
        raise DoesNotFit(
            f"{facts.name} does not fit {board.name}: {'; '.join(missing)}",
            HINTS[facts.kind],
        )


def build_host(files: Sequence[Path], includes: Sequence[Path], out: Path, *, sanitize: bool = False) -> Path:
    """Compiles C files for this machine into the shared library out, for tests of kernels and runtime through ctypes.

    sanitize: undefined behaviour (UBSan) stops the process by an illegal instruction. Returns out.
    Raises MissingTool without ziglang, UserError with the compiler's words where it refuses the sources.
    """
    traps = ["-O1", "-g", "-fsanitize=undefined", "-fsanitize-trap=undefined"]
    checks = traps if sanitize else ["-O2", "-fno-sanitize=undefined"]
    flags = ["-shared", "-fPIC", *_host_flags(includes), *checks]
    _run([*zig.host_command(), *flags, *map(str, files), "-o", str(out), *_libm()])
    return out


def build_host_program(files: Sequence[Path], includes: Sequence[Path], out: Path) -> Path:
    """Compiles C files, one of them with main, for this machine under ASan and UBSan: the program ends with 1 or more
    at the first error. zig has no ASan runtime, so this takes the clang or gcc of the machine; MissingTool without.
    """
    compiler = shutil.which("clang") or shutil.which("gcc")
    if compiler is None:
        raise MissingTool("AddressSanitizer needs clang or gcc, and neither is installed", "apt install gcc")
    checks = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    _run([compiler, *_host_flags(includes), *checks, *map(str, files), "-o", str(out), *_libm()])
    return out


def _host_flags(includes: Sequence[Path]) -> list[str]:
    return [*LANGUAGE, *WARNINGS, *(f"-I{folder}" for folder in includes)]


def _libm() -> list[str]:
    return [] if sys.platform == "win32" else ["-lm"]


def _run(command: list[str], cwd: Path | None = None, cache: Path | None = None) -> None:
    """cache: where zig keeps what it compiled; without, in the user's cache, which zig never clears."""
    environment = {**os.environ, "ZIG_LOCAL_CACHE_DIR": str(cache)} if cache else None
    result = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    if result.returncode != 0:
        raise UserError(f"the C compiler refused the sources: {result.stderr.strip()[-2000:]}")


@contextmanager
def _workplace(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="edge-build-") as temporary:
        yield Path(temporary)
