"""Sources + Board -> Image; refuses what does not fit, and says by how many bytes. A toolchain compiles and links.

The same sources and toolchain give the same bytes on every machine: all files are compiled under relative names in one
folder, and nothing that is linked knows a path or a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from firmware_tools import __version__, boards, elf, instructions, linker, placing, toolchains, uf2
from firmware_tools.about import about
from firmware_tools.about import text as about_text
from firmware_tools.c_text import c_string
from firmware_tools.errors import BadFile, MissingTool, UserError
from firmware_tools.folder import replace
from firmware_tools.linker import Layout
from firmware_tools.placing import Region, Sizes
from firmware_tools.toolchains import zig

if TYPE_CHECKING:
    from firmware_tools.boards import Board
    from firmware_tools.compile import Sources

SCHEMA = 1
RUNTIME = Path(__file__).parent / "runtime"
BOARDS = Path(boards.__file__).parent
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"\n]+)"', re.MULTILINE)
IMAGE_INCLUDES = '#include "port.h"\n#include "section.h"\n'
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


@dataclass(frozen=True)
class Facts:
    """Whose model an image holds, and which toolchain of which version made it.

    can_encode tells whether the model's tokenizer runs on the device. identity is the SHA-256 of all that went in:
    version, board, toolchain, sources, flags, linker scripts; the running firmware tells it. uf2_family is the board's.
    weights_in and code_in: `flash`, or `ram` where they are copied at start; code is that of model and kernels.
    actions: what the board does about answers, in words.
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
    identity: str = ""
    weights_in: str = "flash"
    code_in: str = "flash"
    uf2_family: int | None = None
    version: str = __version__
    actions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Image:
    """Firmware for one board.

    elf: the linked file; entry: its first instruction; segments: (address in flash, bytes) in order of addresses;
    files: the sources by their paths below `src/`, with `/`; sha256: of the ELF file; vectors: the address where the
    chip finds its first stack pointer and instruction.
    """

    facts: Facts
    sizes: Sizes
    elf: bytes = field(repr=False)
    entry: int
    segments: tuple[tuple[int, bytes], ...] = field(repr=False)
    files: Mapping[str, str] = field(repr=False)
    sha256: str
    vectors: int = 0

    @property
    def board(self) -> str:
        return self.facts.board

    @property
    def start(self) -> int:
        """The address where flash_content begins."""
        return self.segments[0][0]

    def flash_content(self) -> bytes:
        """What flash holds from its start on, gaps as erased (0xFF)."""
        content = bytearray()
        for address, part in self.segments:
            content += b"\xff" * (address - self.start - len(content)) + part
        return bytes(content)


def build(
    sources: Sources,
    board: Board,
    folder: Path | None = None,
    *,
    bare: bool = False,
    toolchain: str = toolchains.DEFAULT,
    weights: str | None = None,
) -> Image:
    """Compiles and links sources with the runtime and the board's port functions.

    folder, where given, keeps the sources, objects and linker script; it may exist. bare: of the runtime only the
    startup, for sources with a main of their own. toolchain: a stem of toolchains/. weights: `flash` or `ram`; by
    default where the board reads them faster, as long as all fits.
    Raises DoesNotFit naming region and bytes missing, MissingTool without the toolchain, UserError where C is refused
    or has become an instruction that the board's core lacks.
    """
    tools = toolchains.load(toolchain)
    compiler = tools.command(board)
    files = _source_files(sources, board, (STARTUP,) if bare else runtime(sources.kind))
    slow = _slow(files, sources)
    layouts = placing.layouts(board, weights)
    scripts = [linker.script(board, layout, slow) for layout in layouts]
    flags = [*LANGUAGE, *FREESTANDING, *tools.COMPILE, *LINK, *tools.LINK]
    identity = _identity(files, board, tools.version(), [*flags, *scripts])
    files["image.c"] = _image_c(identity, board, sources, tools.version())
    with _workplace(folder) as place, _workplace(None) as cache:
        for name, text in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text, encoding="utf-8", newline="\n")
        objects = _compile(files, sources, [*compiler, *tools.COMPILE], place, cache)

        def link(layout: Layout) -> bytes:
            (place / "image.ld").write_text(linker.script(board, layout, slow), encoding="utf-8", newline="\n")
            _run([*compiler, *LINK, *tools.LINK, *objects, *tools.LIBRARIES, "-o", "image.elf"], place, cache)
            return (place / "image.elf").read_bytes()

        layout, linked, parts, sizes = _fitting(layouts, link, sources, board)
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
        identity=identity,
        weights_in=layout.weights,
        code_in=layout.code,
        actions=sources.actions,
        uf2_family=board.uf2_family,
    )
    instructions.refuse_foreign(parts, board)
    placing.refuse_what_does_not_fit(sizes, parts, board, layout, facts.name, facts.kind)
    return _image(facts, sizes, linked, parts, files)


def _fitting(
    layouts: Sequence[Layout], link: Callable[[Layout], bytes], sources: Sources, board: Board
) -> tuple[Layout, bytes, elf.Elf, Sizes]:
    """The first layout in which the image fits, or else the last one; the linked file, its parts, what it takes."""
    for layout in layouts:
        linked = link(layout)
        parts = elf.read(linked)
        arranged = placing.arranged(parts, board, layout)
        if arranged is not None and arranged != layout:
            layout, linked = arranged, link(arranged)
            parts = elf.read(linked)
        sizes = placing.measure(parts, sources, board, layout)
        if placing.fits(sizes):
            break
    return layout, linked, parts, sizes


def _image(facts: Facts, sizes: Sizes, linked: bytes, parts: elf.Elf, files: Mapping[str, str]) -> Image:
    vectors = parts.address_of("edge_vectors")
    if vectors is None or not parts.segments:
        raise BadFile("the image's ELF file has no vectors", "build it again")
    sha256 = hashlib.sha256(linked).hexdigest()
    return Image(facts, sizes, linked, parts.entry, parts.segments, files, sha256, vectors)


def runtime(kind: str) -> tuple[Path, ...]:
    """The C files of the runtime for a kind of model: what all share, and what is its own."""
    own = RUNTIME.glob("*.c") if kind == "decoder" else (RUNTIME / kind).glob("*.c")
    return tuple(sorted({*SHARED, *own}))


def save(image: Image, folder: Path) -> None:
    """Writes image.elf, image.bin (flash content), image.json (facts and sizes) and src/ into folder, all or nothing;
    and image.uf2 for boards that take such files.

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
        facts = Facts(**{**described["facts"], "actions": tuple(described["facts"].get("actions", ()))})
        sizes = _sizes(described["sizes"])
        expected = described["sha256"]
        source_folder = folder / "src"
        paths = sorted(path for path in source_folder.rglob("*") if path.is_file())
        files = {path.relative_to(source_folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadFile(f"{folder} is not a firmware image", "make one with `edge build`") from error
    if hashlib.sha256(linked).hexdigest() != expected:
        raise BadFile(f"{folder / 'image.elf'} is damaged: its hash is not the one in image.json", "build it again")
    image = _image(facts, sizes, linked, elf.read(linked), files)
    told = about(linked) or {}
    if (told.get("inputs"), told.get("model")) != (facts.identity, facts.model_sha256):
        raise BadFile(f"{folder / 'image.json'} describes another image than image.elf is", "build it again")
    if told["board"].partition("+")[0] != facts.board:
        raise BadFile(
            f"{folder / 'image.elf'} is for {told['board']}, and image.json says {facts.board}", "build it again"
        )
    return image


def _sizes(described: Mapping[str, Any]) -> Sizes:
    regions = tuple(Region(**region) for region in described["regions"])
    return Sizes(**{**described, "regions": regions})


def _write_image(image: Image, folder: Path) -> None:
    for name, text in image.files.items():
        path = folder / "src" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    (folder / "image.elf").write_bytes(image.elf)
    content = image.flash_content()
    (folder / "image.bin").write_bytes(content)
    if image.facts.uf2_family is not None:
        (folder / "image.uf2").write_bytes(uf2.encode(content, image.start, image.facts.uf2_family))
    described = {"schema": SCHEMA, "sha256": image.sha256, "facts": asdict(image.facts), "sizes": asdict(image.sizes)}
    (folder / "image.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8", newline="\n")


def _source_files(sources: Sources, board: Board, runtime: Sequence[Path]) -> dict[str, str]:
    """All that is compiled, and the headers that it includes, by its path below `src/`."""
    port = boards.port_source(board.name)
    headers = {f"boards/{path.name}": path for folder in (BOARDS, port.parent) for path in folder.glob("*.h")}
    for folder in (RUNTIME, *sources.includes):
        headers |= {f"{folder.name}/{path.name}": path for path in folder.glob("*.h")}
    compiled = {f"{path.parent.name}/{path.name}": path for path in (*runtime, *sources.kernels)}
    compiled[f"boards/{port.name}"] = port
    files = {name: path.read_text(encoding="utf-8") for name, path in compiled.items()} | dict(sources.files)
    waiting = [name for name in files if not name.endswith(".h")] + ["image.c"]
    texts = {**files, "image.c": IMAGE_INCLUDES}
    while waiting:
        name = waiting.pop()
        for included in INCLUDE.findall(texts[name]):
            found = _find(included, name, {*headers, *files})
            if found is not None and found not in texts:
                texts[found] = files[found] = headers[found].read_text(encoding="utf-8")
                waiting.append(found)
    return dict(sorted(files.items()))


def _find(included: str, by: str, known: Set[str]) -> str | None:
    """The file that an include means: beside the one that includes it, or in the first folder that has it."""
    beside = f"{by.rpartition('/')[0]}/{included}".lstrip("/")
    if beside in known:
        return beside
    return next((name for name in sorted(known) if name == included or name.endswith(f"/{included}")), None)


def _slow(files: Mapping[str, str], sources: Sources) -> list[str]:
    """Objects whose code stays in flash: those of runtime, port and what the image says of itself."""
    fast = {*sources.files, *(f"{path.parent.name}/{path.name}" for path in sources.kernels)}
    return [*(f"{name[:-2]}.o" for name in files if name.endswith(".c") and name not in fast), "image.o"]


def _identity(files: Mapping[str, str], board: Board, toolchain: str, rest: Sequence[str]) -> str:
    """The SHA-256 of all that decides an image's bytes, in hex."""
    told = [__version__, board.full_name, toolchain, *rest, *(part for item in files.items() for part in item)]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _image_c(identity: str, board: Board, sources: Sources, toolchain: str) -> str:
    """What an image says of itself: to who runs it, and (near its start) to who reads its bytes."""
    told = {
        "edge": __version__,
        "board": board.full_name,
        "model": sources.model_sha256,
        "toolchain": toolchain,
        "inputs": identity,
    }
    return f"""/* What this image is. Generated. SPDX-License-Identifier: Apache-2.0 OR MIT-0 */
{IMAGE_INCLUDES}
const char edge_image[] = "{identity}";
const int edge_acts = {int(bool(sources.actions))};

EDGE_ABOUT const char edge_about[] = {c_string(about_text(told))};
"""


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
