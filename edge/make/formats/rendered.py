"""Chat templates rendered: Jinja programs of strangers, run in a process that may take little and open nothing.

    parent    rendered(template, names, conversations) -> [text or Failure, …]
    child     python -m edge.make.formats.rendered: JSON on stdin, JSON on stdout

The environment is the one that transformers gives a template, but for the date of today, which would make the same
source give another file tomorrow.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edge
from edge.limits import set_limits
from edge.terminal import one_line
from firmware_tools.errors import MissingTool

SPARE_BYTES = 1 << 28
LONGEST_S = 20.0
LARGEST_BYTES = 1 << 16  # of one rendered conversation
FORBIDDEN = (
    "open",
    "os.",
    "subprocess.",
    "socket.",
    "ctypes.",
    "shutil.",
    "mmap.",
    "_winapi.",
    "import",
)  # events of auditing

Message = Mapping[str, str]  # role and content


@dataclass(frozen=True)
class Failure:
    """Why a conversation could not be rendered, in the template's words or Jinja's."""

    reason: str


def rendered(
    template: str, names: Mapping[str, str], conversations: Sequence[Sequence[Message]]
) -> list[str | Failure]:
    """The texts of conversations up to where the next answer begins.

    names: of special tokens (`bos_token` …) and their texts. MissingTool where Jinja is not installed.
    """
    job = json.dumps({"template": template, "names": dict(names), "conversations": list(map(list, conversations))})
    home = str(Path(edge.__file__).resolve().parent.parent)
    paths = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edge.make.formats.rendered"],
            input=job.encode("ascii"),
            capture_output=True,
            timeout=LONGEST_S,
            env={**os.environ, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1"},
        )
    except subprocess.TimeoutExpired:
        return [Failure(f"it does not end within {LONGEST_S:.0f} seconds")] * len(conversations)
    with contextlib.suppress(ValueError, TypeError, KeyError):
        answer = json.loads(done.stdout)
        if answer == "missing":
            raise MissingTool("the package jinja2 is not installed", "pip install 'edge-tinyml[chat]'")
        return [found["text"] if "text" in found else Failure(str(found["failure"])) for found in answer]
    return [Failure("it needs too much memory, or ends the process that reads it")] * len(conversations)


def _serve() -> None:
    """The child's side."""
    job = json.loads(sys.stdin.buffer.read())
    try:
        template = _compiled(job["template"])
    except ImportError:
        answer: Any = "missing"
    except Exception as error:
        answer = [_failed(error)] * len(job["conversations"])
    else:
        answer = [_render(template, job["names"], conversation) for conversation in job["conversations"]]
    sys.stdout.write(json.dumps(answer))


def _compiled(source: str) -> Any:
    """The template, compiled in Jinja's sandbox; from here on this process opens, starts and imports nothing."""
    import jinja2.debug
    import jinja2.ext
    import jinja2.nodes
    import jinja2.sandbox

    class Generation(jinja2.ext.Extension):  # type: ignore[misc]
        """`{% generation %}`, by which transformers marks an answer, shows what is in it."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return jinja2.nodes.Scope(body, lineno=line)

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    def as_json(value: Any, **how: Any) -> str:
        return json.dumps(value, ensure_ascii=False, **{key: how[key] for key in how if key != "ensure_ascii"})

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, Generation]
    )
    environment.filters["tojson"] = as_json
    environment.globals["raise_exception"] = refuse
    environment.from_string("{{ 'x' | trim }}{% for i in range(1) %}{{ i }}{% endfor %}").render()
    set_limits(SPARE_BYTES)
    sys.addaudithook(_audit)
    return environment.from_string(source)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    """Behind Jinja's sandbox, should a template find a way out of it."""
    if event.startswith(FORBIDDEN) and not (event == "import" and arguments[0] in sys.modules):
        raise PermissionError(f"a template may not do that: {event}")


def _render(template: Any, names: Mapping[str, str], messages: Sequence[Message]) -> dict[str, str]:
    try:
        text = ""
        for part in template.generate(
            messages=messages, add_generation_prompt=True, tools=None, documents=None, **names
        ):
            text += part
            if len(text) > LARGEST_BYTES:
                return {"failure": f"it makes more than {LARGEST_BYTES} characters of a few words"}
        return {"text": text}
    except Exception as error:
        return _failed(error)


def _failed(error: Exception) -> dict[str, str]:
    return {"failure": one_line(str(error))[:200] or type(error).__name__}


if __name__ == "__main__":
    _serve()
