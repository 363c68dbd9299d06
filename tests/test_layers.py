"""The house, executed: every import goes down the drawing, and what is fenced in stays there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# from the roof down: a module may import what stands in its own line and in those below
DRAWING = (
    ("edge.__main__",),
    ("edge.cli",),
    ("edge.demo",),
    ("edge.decide",),
    ("edge.measure",),
    ("edge.run",),
    ("edge.make",),
    ("edge.inputs",),
    ("edge.words",),
    (
        "edge.tokenizer",
        "edge.shares",
        "edge.tasks",
        "edge.replacing",
        "edge.turns",
        "edge.zoo",
        "edge.drawing",
        "edge.terminal",
        "edge.options",
        "edge.limits",
    ),
    ("edge",),
    ("firmware_tools.flashers",),
    ("firmware_tools.emulators",),
    ("firmware_tools.build",),
    ("firmware_tools.placing", "firmware_tools.about"),
    ("firmware_tools.uf2",),
    ("firmware_tools.linker", "firmware_tools.stack"),
    ("firmware_tools.veneers",),
    ("firmware_tools.instructions",),
    ("firmware_tools.elf", "firmware_tools.toolchains"),
    ("firmware_tools.library", "firmware_tools.actions", "firmware_tools.silicon"),
    ("firmware_tools.compile",),
    ("firmware_tools.plain_c",),
    ("firmware_tools.c_text",),
    ("firmware_tools.link",),
    ("firmware_tools.probes",),
    ("firmware_tools.ports",),
    ("firmware_tools.usb_tree",),
    ("firmware_tools.info",),
    ("firmware_tools.transports", "firmware_tools.volumes", "firmware_tools.an3155"),
    ("firmware_tools.child", "firmware_tools.pyocd_child"),
    ("firmware_tools.interpret", "firmware_tools.costs"),
    ("firmware_tools.plan",),
    ("firmware_tools.lower",),
    ("firmware_tools.fuse", "firmware_tools.fuse_attention", "firmware_tools.matcher", "firmware_tools.bfp_program"),
    ("firmware_tools.program", "firmware_tools.simplify", "firmware_tools.closed"),
    ("firmware_tools.shapes",),
    ("firmware_tools.ops", "firmware_tools.quantized", "firmware_tools.floats", "firmware_tools.lstm"),
    ("firmware_tools.boards", "firmware_tools.cores"),
    ("firmware_tools.graph", "firmware_tools.verify", "firmware_tools.contract"),
    ("firmware_tools.vocabulary", "firmware_tools.frames", "firmware_tools.sampler", "firmware_tools.content"),
    ("firmware_tools.requantize_int16",),
    ("firmware_tools.products", "firmware_tools.requantize", "firmware_tools.fixed_point", "firmware_tools.window"),
    ("firmware_tools.elementary", "firmware_tools.hybrid", "firmware_tools.fixed_point_16"),
    ("firmware_tools.packed4", "firmware_tools.folder", "firmware_tools.facts_file", "firmware_tools.mapped"),
    ("firmware_tools.exp", "firmware_tools.packed", "firmware_tools.bfp", "firmware_tools.errors"),
    ("firmware_tools",),
)
LEVEL = {name: level for level, names in enumerate(DRAWING) for name in names}

# a package, and the only places that may import it
FENCES = {
    "tensorflow": ("edge.make.learn", "edge.make.checkpoints.keras", "edge.make.checkpoints.saved_model"),
    "keras": ("edge.make.learn", "edge.make.checkpoints.keras"),
    "click": ("edge.cli", "edge.options"),
    "tokenizers": ("edge.tokenizer",),
    "safetensors": ("edge.make.formats.tensor_files",),
    "huggingface_hub": ("edge.make.checkpoints.hub",),
    "unicorn": ("firmware_tools.emulators",),
    "gguf": ("edge.make.formats.gguf_file",),
    "jinja2": ("edge.make.formats.rendered",),
    "pyocd": ("firmware_tools.pyocd_child",),
    "onnx": ("edge.make.checkpoints.onnx",),
    "flatbuffers": ("edge.make.gapped", "edge.make.formats.written"),
    "rich": ("edge.cli", "edge.demo", "edge.decide", "edge.terminal"),
}


def modules() -> dict[str, Path]:
    found = {}
    for package in ("edge", "firmware_tools"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, wherever in it; a module imported from its package counts as itself."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)


def room(module: str) -> str:
    """The longest name of the drawing that module lies in."""
    fitting = [name for name in LEVEL if module == name or module.startswith(name + ".")]
    assert fitting, f"{module} is in no room of the drawing"
    return max(fitting, key=len)


MODULES = modules()


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    for imported in imports(MODULES[module]):
        if imported.split(".")[0] in ("edge", "firmware_tools"):
            assert LEVEL[room(imported)] >= LEVEL[room(module)], f"{module} imports {imported}, which is above it"


@pytest.mark.parametrize("module", MODULES)
def test_fences_hold(module: str) -> None:
    for imported in imports(MODULES[module]):
        allowed = FENCES.get(imported.split(".")[0])
        assert allowed is None or any(module == name or module.startswith(name + ".") for name in allowed), (
            f"{module} imports {imported}"
        )


def test_no_room_collects_everything() -> None:
    """Modules are named for what they do."""
    collectors = {"utils", "util", "types", "common", "base", "helpers", "misc"}
    assert not [name for name in MODULES if name.rsplit(".", 1)[-1] in collectors]
