"""What the doctor finds: one state, one line, and the line that fixes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """state: `ok`, `missing` (needed), `absent` (needed for some things only) or `warning`; hint: what to type."""

    state: str
    what: str
    hint: str = ""


def text(findings: list[Finding]) -> str:
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:8} {finding.what}")
        lines += [f"{'':8}   {finding.hint}"] if finding.hint else []
    return "\n".join(lines) + "\n"
