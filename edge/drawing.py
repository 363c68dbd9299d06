"""Pictures as SVG: rectangles and words, readable in light and in dark, with a title on everything that has one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from edge.terminal import one_line

# colours that people who see few colours tell apart (Okabe and Ito, 2008), then lighter ones for what is left
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
FONT_PX = 12
STYLE = """
    text { font: 12px system-ui, sans-serif; fill: #222 }
    .ground { fill: #fff }
    .edge { stroke: #fff; stroke-width: 0.5 }
    @media (prefers-color-scheme: dark) { text { fill: #ddd } .ground { fill: #181818 } .edge { stroke: #181818 } }
"""


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name, in the order of their first use; the last one serves for all that follow."""
    distinct = list(dict.fromkeys(names))
    return {name: COLOURS[min(i, len(COLOURS) - 1)] for i, name in enumerate(distinct)}


@dataclass
class Drawing:
    """A picture of a size in px that is filled from left to right and top to bottom."""

    width: float
    height: float
    title: str
    _parts: list[str] = field(default_factory=list)

    def rectangle(self, x: float, y: float, width: float, height: float, colour: str, title: str) -> None:
        """A filled rectangle; title is what a reader sees who points at it."""
        box = f'x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
        self._parts.append(f'<rect class="edge" {box} fill="{colour}"><title>{_plain(title)}</title></rect>')

    def text(self, x: float, y: float, text: str, anchor: str = "start") -> None:
        """A line of text with its baseline at y."""
        self._parts.append(f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}">{_plain(text)}</text>')

    def legend(self, x: float, y: float, names: Sequence[tuple[str, str]], step: float = 150) -> None:
        """(name, colour) side by side."""
        for i, (name, colour) in enumerate(names):
            self.rectangle(x + i * step, y - FONT_PX + 2, FONT_PX, FONT_PX, colour, name)
            self.text(x + i * step + FONT_PX + 5, y, name)

    def svg(self) -> str:
        """The picture as a file."""
        size = f'width="{self.width:.0f}" height="{self.height:.0f}" viewBox="0 0 {self.width:.0f} {self.height:.0f}"'
        label = f'role="img" aria-label={quoteattr(one_line(self.title))}'
        ground = '<rect class="ground" width="100%" height="100%"/>'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {label}>\n<style>{STYLE}</style>\n{ground}\n'
        return head + "\n".join(self._parts) + "\n</svg>\n"


def _plain(text: str) -> str:
    return escape(one_line(text))
