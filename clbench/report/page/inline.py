"""A figure as SVG inside a page: text stays text, and neutral colours follow the page's light or dark."""

from __future__ import annotations

import re
from html import escape

from clbench.report.figures.look import BOUND, GRID, INK, PAPER, Drawing, written

NEUTRAL = {INK: "currentColor", GRID: "var(--rule)", PAPER: "var(--paper)", BOUND: "var(--bound)"}
NOT_NEEDED = r"<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>|<style.*?</style>|<defs>\s*</defs>"
PIXELS = 4 / 3  # of a point


def inline_svg(drawing: Drawing, name: str, label: str) -> str:
    """The figure as an ``<svg>`` element of its natural size.

    Args:
        drawing: what is drawn.
        name: of the figure on its page; what its parts are called by begins with it, so that figures do not mix.
        label: what readers hear who do not see it.
    """
    svg = re.sub(NOT_NEEDED, "", written(drawing, "svg").decode(), flags=re.DOTALL)
    svg = re.sub(r' (d|x|y|transform)="[^"]*"', _shortened, svg)
    head, _, body = svg[svg.index("<svg") :].partition(">")
    used = set(re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', body))
    for identity in {"".join(pair) for pair in used}:
        body = re.sub(rf'(id="|#){re.escape(identity)}(?=[")])', rf"\g<1>{name}-{identity}", body)
    body = re.sub(rf' id="(?!{name}-)[^"]*"', "", body).replace("xlink:href", "href")
    for colour, variable in NEUTRAL.items():
        body = body.replace(colour, variable)
    width, height = (float(re.findall(rf'{side}="([\d.]+)pt"', head)[0]) for side in ("width", "height"))
    box = f'width="{width * PIXELS:.0f}" height="{height * PIXELS:.0f}" viewBox="0 0 {width:g} {height:g}"'
    packed = re.sub(r">\s+<", "><", body)
    return f'<svg role="img" aria-label="{escape(label)}" {box}>{packed}'


def _shortened(attribute: re.Match[str]) -> str:
    """Coordinates to a hundredth of a point, on one line."""
    text = re.sub(r"(\.\d\d)\d+", r"\1", attribute[0])
    return re.sub(r"\s+", " ", text)
