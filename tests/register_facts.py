"""Register addresses and fields in C against facts transcribed from vendors' files.

How C names what a chip's documentation says, in the chip's header, in cortex.h or in a board's .c:

    #define UARTE0_BAUDRATE REGISTER(0x40002524u)              PERIPHERAL_REGISTER, a 32-bit register at that address
    #define GPIO_PIN_CNF(n) REGISTER(0x50000700u + 4u * (n))   several of them, by arguments
    #define UARTE0_SHORTS_ENDRX_STARTRX (1u << 5)              PERIPHERAL_REGISTER_FIELD, the field's mask in place
    #define UARTE0_ENABLE_ENABLE_ENABLED (8u << 0)             ..._VALUE, one of its values, in place as well
    #define RCC_PLLCFGR_PLLN(n) ((n) << 6)                     a field by its value

`tests/registers/X.toml` has the facts of chip X, each under the name that the C gives it: `registers` with the address
(for those with arguments, addresses by arguments), `fields` with lowest bit, width and, for one of its values, that
value, `numbers` with what else the vendor gives. `is` says what the vendor calls it in the files that `source` names;
the facts are from there, not from our C. `absent` lists what a header has for this chip's relatives alone, and why that
does no harm; `memory` and `pins` are for test_board_facts.py. `own.toml` lists macros that no vendor's file decides,
and why.

Every macro that a board of silicon gets from `firmware_tools/boards/` must be in one of these files, and every fact
must be used, so that neither a new register nor a fact is forgotten. Text macros and empty ones need no entry.
"""

from __future__ import annotations

import ast
import operator
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firmware_tools import boards
from firmware_tools.boards import Board
from firmware_tools.build import RUNTIME
from firmware_tools.toolchains import zig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parent / "registers"
FILES = sorted(path.stem for path in FOLDER.glob("*.toml") if path.stem != "own")
SHARED = "cortex"
PROBE = "probe.c"  # stands for the board's own .c
AT = "at_address"  # what the probe makes of REGISTER


@dataclass(frozen=True)
class Macro:
    """One macro of our C: its parameters (None: not even parentheses), and where it is defined."""

    name: str
    parameters: str | None
    place: str


@dataclass(frozen=True)
class Facts:
    """What vendors say: by the name of the macro, the calls to try and what each must be. unchecked: names alone."""

    boards: tuple[str, ...]
    registers: Mapping[str, Mapping[str, int]]
    values: Mapping[str, Mapping[str, int]]
    unchecked: frozenset[str] = field(default_factory=frozenset)

    @property
    def names(self) -> frozenset[str]:
        return frozenset({*self.registers, *self.values, *self.unchecked})


def silicon() -> list[str]:
    """The boards whose time is seconds."""
    return [name for name in boards.shipped() if boards.load(name).clock == "seconds"]


def load(name: str) -> dict[str, Any]:
    """One file as it is."""
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))


def facts(name: str) -> Facts:
    """The facts of one chip."""
    content = load(name)
    registers = {macro: _calls(macro, entry["at"]) for macro, entry in content.get("registers", {}).items()}
    values = {macro: _calls(macro, entry["value"]) for macro, entry in content.get("numbers", {}).items()}
    values |= {macro: _field(macro, entry) for macro, entry in content.get("fields", {}).items()}
    return Facts(tuple(content.get("boards", ())), registers, values, frozenset(content.get("absent", ())))


def own() -> Facts:
    """The macros that are ours."""
    return Facts((), {}, {}, frozenset(load("own")))


def of_board(board: str) -> list[str]:
    """The files that speak of a board."""
    return [name for name in FILES if name == SHARED or board in load(name)["boards"]]


def merged(parts: list[Facts]) -> Facts:
    """All facts that hold for one board."""
    return Facts(
        (),
        {macro: calls for part in parts for macro, calls in part.registers.items()},
        {macro: calls for part in parts for macro, calls in part.values.items()},
        frozenset().union(*(part.unchecked for part in parts)),
    )


def _calls(macro: str, fact: int | dict[str, int]) -> dict[str, int]:
    if isinstance(fact, int):
        return {macro: fact}
    return {f"{macro}({arguments})": number for arguments, number in fact.items()}


def _field(macro: str, entry: Mapping[str, Any]) -> dict[str, int]:
    """A mask, a value in place, or (`placed`) a macro that puts its argument into place."""
    bit, most = entry["bit"], (1 << entry["width"]) - 1
    if entry.get("placed"):
        return {f"{macro}(1)": 1 << bit, f"{macro}({most}u)": most << bit}
    if entry.get("value", most) > most:
        raise ValueError(f"{macro} has a value that its {entry['width']} bits cannot hold")
    return {macro: entry.get("value", most) << bit}


def macros(board: Board, folder: Path) -> dict[str, Macro]:
    """Every macro that the C of a board has from files in folder, but text and empty ones."""
    found = {}
    place, line = "", 0
    for text in preprocessed(board, folder, source(board, folder).read_text(encoding="utf-8"), "-dD").splitlines():
        if marker := re.match(r'#(?:line)? (\d+) "(.*?)"', text):
            place, line = marker[2].replace("\\\\", "/"), int(marker[1])
            continue
        if defined := re.match(r"#define (\w+)(\([^)]*\))? ?(.*)", text):
            name, parameters, body = defined.groups()
            ours = Path(place).parent.name == folder.name or place.endswith(PROBE)
            if ours and body and not body.startswith('"'):
                file = source(board, folder).name if place.endswith(PROBE) else Path(place).name
                found[name] = Macro(name, parameters, f"{file}:{line}")
        line += 1
    return found


def source(board: Board, folder: Path) -> Path:
    return folder / boards.port_source(board.name).name


def preprocessed(board: Board, folder: Path, text: str, *options: str) -> str:
    """What the compiler's preprocessor makes of C text that stands where a board's .c does."""
    includes = ("-I", str(folder), "-I", str(RUNTIME))
    with tempfile.TemporaryDirectory() as place:
        probe = Path(place) / PROBE
        probe.write_text(text, encoding="utf-8")
        command = [*zig.command(board), "-std=c11", "-ffreestanding", *includes, "-E", *options, str(probe)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def evaluated(board: Board, folder: Path, calls: list[str]) -> dict[str, tuple[bool, int | None]]:
    """What the compiler makes of each call: is it a register, and its address or value (None: no constant)."""
    text = source(board, folder).read_text(encoding="utf-8")
    probe = f"{text}\n#undef REGISTER\n#define REGISTER(address) {AT} (address)\n"
    probe += "".join(f'\nprobe {number} "{call}" {call} ;\n' for number, call in enumerate(calls))
    output = preprocessed(board, folder, probe, "-P")
    found = {}
    for number, rest in re.findall(r'^\s*probe (\d+) "[^"]*"(.*?);$', output, re.MULTILINE):
        expression = rest.strip().replace(AT, "", 1)
        found[calls[int(number)]] = (AT in rest, constant(expression))
    assert len(found) == len(calls), "the probe has lost a line"
    return found


OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.BitXor: operator.xor,
}
CAST = re.compile(r"\(\s*(?:volatile )?(?:u?int(?:8|16|32|ptr)_t|unsigned(?: int)?)\s*\)")


def constant(expression: str) -> int | None:
    """The value of an integer constant of C as 32 bits; None for whatever else."""
    text = re.sub(r"\b(0[xX][0-9a-fA-F]+|\d+)[uUlL]*\b", r"\1", CAST.sub("", expression)).replace("/", "//")
    try:
        return _value(ast.parse(text.strip(), mode="eval").body) & 0xFFFFFFFF
    except (SyntaxError, TypeError):
        return None


def _value(node: ast.expr) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
        return ~_value(node.operand)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        result: int = OPERATORS[type(node.op)](_value(node.left), _value(node.right))
        return result
    raise TypeError(ast.dump(node))


def problems(board: Board, known: Facts, folder: Path) -> Iterator[str]:
    """Where the C of a board is not what the facts say, and which of its macros no facts know."""
    there = macros(board, folder)
    for name in sorted(there.keys() - known.names):
        yield f"{there[name].place}: no facts know {name} (see tests/register_facts.py)"
    wanted = {"register": known.registers, "value": known.values}
    calls = {call: (kind, name, fact) for kind, of in wanted.items() for name in of for call, fact in of[name].items()}
    calls = {call: item for call, item in calls.items() if item[1] in there}
    for call, (is_register, number) in evaluated(board, folder, list(calls)).items():
        kind, name, fact = calls[call]
        if is_register != (kind == "register"):
            yield f"{there[name].place}: {call} is {'a' if is_register else 'no'} register"
        elif number != fact:
            shown = "no constant" if number is None else f"{number:#x}"
            yield f"{there[name].place}: {call} is {shown}; the vendor's is {fact:#x}"


ADDRESS = re.compile(r"(?:\bREGISTER\s*\(|\*\s*\)\s*\(?)\s*0x[0-9a-fA-F]+")


def bare_addresses(board: Board, folder: Path) -> Iterator[str]:
    """Addresses as numbers in code, where a macro with a name should stand."""
    names = {source(board, folder).name, *(macro.place.partition(":")[0] for macro in macros(board, folder).values())}
    for path in sorted(folder / name for name in names):
        text = path.read_text(encoding="utf-8").replace("\\\n", "")
        text = re.sub(r"/\*.*?\*/", lambda comment: "\n" * comment[0].count("\n"), text, flags=re.DOTALL)
        for number, line in enumerate(text.splitlines(), 1):
            if not line.lstrip().startswith("#define") and (found := ADDRESS.search(line)):
                yield f"{path.name}:{number}: {found[0]} stands bare in the code"
