"""The figures of the page as SVG files: the same shapes, with the style sheet inside."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from dask_dedup.results.report.template import asset

if TYPE_CHECKING:
    from dask_dedup.results.report.subject import Subject

#: Size of the charts, and the space around them, in pixels.
_WIDTH, _LEFT, _TOP, _RIGHT, _BOTTOM = 760, 70, 40, 30, 66

_VARIABLE = re.compile(r"--([a-z0-9]+):([^;}]+)")
_USE = re.compile(r"var\(--([a-z0-9]+)(?:,var\(--([a-z0-9]+)\))?\)")
_CLASS = re.compile(r"\.(c[0-9gx])\{--c:([^}]+)\}")

_FRAME = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="system-ui, sans-serif">
<style>{style}</style>
<rect width="100%" height="100%" fill="#fff"/>
<text x="{left}" y="24" font-size="14" font-weight="600">{title}</text>
{body}
<text x="{middle}" y="{bottom}" font-size="13" text-anchor="middle" fill="#535a63">{axis}</text>
</svg>
"""


def make_plots(subject: Subject, shown: dict[str, Any]) -> dict[str, str]:
    """Return the text of each SVG file by name, from the sections of the page."""
    noun = subject.noun
    plots: dict[str, str] = {}
    micrographs = shown["micrographs"]
    if micrographs:
        for number, pictures in enumerate(micrographs["plots"], start=1):
            for name, picture in zip(("", "-enlarged"), pictures, strict=False):
                plots[f"micrograph-{number}{name}"] = _picture(picture)
        if micrographs["chart"]:
            title = f"Share rejected, by number of {noun}s on the {subject.image_kind}"
            plots["share-rejected"] = _chart(micrographs["chart"], title, f"{noun}s")
    if shown["separation"] and shown["separation"]["panels"]:
        names = ("distances-before", "distances-after", "kept-by-separation")
        for name, (_, title, panel) in zip(names, shown["separation"]["panels"], strict=True):
            plots[name] = _chart(panel, title, "distance or separation in Å")
    for number, panel in enumerate(shown["scores"]["panels"] if shown["scores"] else (), start=1):
        picker = panel["picker"]
        title = f"{picker.name}: scores of kept (filled) and rejected {noun}s"
        plots[f"scores-{number}"] = _chart(panel["chart"], title, panel["column"], picker.colour)
    return plots


def _style(colour: str = "cx") -> str:
    """Return the style rules of charts and pictures. Few programs support variables, so colours replace them."""
    palette = dict(_VARIABLE.findall(asset("palette.css").split("@media", 1)[0]))
    page = asset("page.css")
    classes = dict(_CLASS.findall(page))
    start = page.index(".still{")
    rules = asset("chart.css") + page[start : page.index(".copy{")]

    def plain(text: str, own: str) -> str:
        values = palette | {"c": own}
        return _USE.sub(lambda use: values.get(use[1]) or values[use[2]], text)

    coloured = [
        plain(rule, plain(value, ""))
        for name, value in classes.items()
        for rule in (
            f".{name}.k{{fill:var(--c);stroke:var(--c)}}",
            f".{name}.r,.still .{name}.v{{stroke:var(--c)}}",
        )
    ]
    return (
        plain(rules, plain(classes[colour], "")) + "".join(coloured) + f".plot{{width:{_WIDTH}px}}"
    )


def _chart(chart: Markup, title: str, axis: str, colour: str = "cx") -> str:
    found = re.search(r'height="(\d+)"', chart)
    height = int(found[1]) if found else 100
    inner = re.sub(r"(<line )hidden [^>]*/>", "", str(chart))
    inner = inner.replace("<svg ", f'<svg x="{_LEFT}" y="{_TOP}" width="{_WIDTH}" ', 1)
    return _FRAME.format(
        width=_WIDTH + _LEFT + _RIGHT,
        height=height + _TOP + _BOTTOM,
        style=_style(colour),
        left=_LEFT,
        middle=_LEFT + _WIDTH // 2,
        bottom=height + _TOP + 48,
        title=escape(title),
        axis=escape(axis),
        body=inner,
    )


def _picture(picture: Markup) -> str:
    style = f"<style>{_style()}</style><rect width='100%' height='100%' fill='#fff'/>"
    start = '<svg xmlns="http://www.w3.org/2000/svg" width="1000" font-family="system-ui, sans-serif" class="still" '
    opening, rest = str(picture).split(">", 1)
    return f"{start}{opening.removeprefix('<svg ')}>{style}{rest}\n"
