"""Draw the pictures of docs/explanation/votes.md: ``python docs/images/draw_votes.py``."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

#: Pixels of an angstrom, radius of a pick, and height of the line of picks.
SCALE, RADIUS, MIDDLE = 1.6, 13, 84
STYLE = (
    "svg{font:15px system-ui,sans-serif}rect{fill:#fff}text{fill:#1b1e22;text-anchor:middle}"
    ".soft{fill:#535a63;font-size:13px}.A{--c:#0072b2}.B{--c:#d55e00}.C{--c:#009e73}"
    "circle{fill:none;stroke:var(--c);stroke-width:2.4}.kept{fill:var(--c);fill-opacity:.55}"
    ".reach{stroke:#535a63;stroke-width:1.2;stroke-dasharray:5 4}"
    ".arrow,.line{fill:none;stroke:#535a63;stroke-width:1.8}.line{stroke-dasharray:2 4}"
    "@media(prefers-color-scheme:dark){rect{fill:#14171a}text{fill:#eceff1}.soft{fill:#a9b1ba}"
    ".A{--c:#56b4e9}.B{--c:#e69f00}.C{--c:#1fb98c}.reach,.arrow,.line{stroke:#a9b1ba}}"
)
MARKER = (
    '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
    'orient="auto"><path d="M0 0L8 4L0 8z" fill="#8b949e"/></marker>'
)


def pick(picker: str, x: float, below: str = "", *, kept: bool = False) -> str:
    """Return a pick with its picker's letter, and a line of text below it. Kept picks are filled."""
    return (
        f'<circle class="{picker}{" kept" if kept else ""}" cx="{x}" cy="{MIDDLE}" r="{RADIUS}"/>'
        f'<text x="{x}" y="{MIDDLE + 5}">{picker}</text>'
        f'<text class="soft" x="{x}" y="{MIDDLE + 38}">{below}</text>'
    )


def vote(start: float, end: float) -> str:
    """Return an arrow from a voter to the pick it votes for."""
    way = 1 if end > start else -1
    first, last, top = start + way * 6, end - way * 6, MIDDLE - RADIUS - 4
    return (
        f'<path class="arrow" marker-end="url(#tip)" '
        f'd="M{first} {top}C{first} {top - 28} {last} {top - 28} {last} {top}"/>'
    )


def line(start: float, end: float, what: str) -> str:
    """Return a line between two picks, with a distance below it."""
    return (
        f'<path class="line" d="M{start + RADIUS} {MIDDLE}H{end - RADIUS}"/>'
        f'<text class="soft" x="{(start + end) / 2}" y="{MIDDLE + 19}">{what}</text>'
    )


def note(x: float, text: str, y: float = 150) -> str:
    """Return a line of text."""
    return f'<text class="soft" x="{x}" y="{y}">{text}</text>'


def write(name: str, *parts: str, height: int = 165) -> None:
    """Write a picture that is 680 pixels wide."""
    picture = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 {height}"><style>{STYLE}</style>'
        f'{MARKER}<rect width="680" height="{height}" rx="6"/>{"".join(parts)}</svg>\n'
    )
    Path(__file__).with_name(f"{name}.svg").write_text(picture, encoding="utf-8")


def between(start: float, angstrom: float) -> float:
    """Return the place at a distance in angstrom from another one."""
    return start + SCALE * angstrom


# One particle with three votes; one pick between two particles.
write(
    "votes-nearest",
    *(vote(95, 140), vote(185, 140)),
    *(pick("B", 95), pick("C", 185), pick("A", 140, "3 votes", kept=True)),
    note(140, "B and C vote for the particle near them"),
    *(vote(515, 580), line(420, 515, "60 Å"), line(515, 580, "40 Å")),
    *(pick("A", 420, "1 vote", kept=True), pick("B", 515), pick("A", 580, "2 votes", kept=True)),
    note(500, "B has one vote, for the nearer particle"),
)

# The pick that b loses to is not the one that it votes for.
a = 180
b, c = between(a, 90), between(a, 160)
write(
    "votes-chain",
    *(vote(b, c), line(a, b, "90 Å"), line(b, c, "70 Å")),
    pick("A", a, "best score: 1 vote", kept=True),
    *(pick("B", b), pick("C", c, "2 votes", kept=True)),
    note(340, "separation 100 Å: B is a duplicate of both; A wins, but B votes for C"),
)

# A chain of picks is several particles.
places = [120 + 110 * number for number in range(5)]
write(
    "votes-component",
    *(line(one, other, "70 Å") for one, other in pairwise(places)),
    *(vote(places[1], places[0]), vote(places[3], places[4])),
    pick("A", places[0], "2 votes", kept=True),
    *(pick("B", places[1]), pick("C", places[2], "1 vote", kept=True), pick("B", places[3])),
    pick("A", places[4], "2 votes", kept=True),
    note(340, "one connected component, 280 Å long; three particles"),
)

# The separation and the vote distance.
x, y = 210, 150
write(
    "votes-distance",
    f'<circle class="reach" cx="{x}" cy="{y}" r="130"/>',
    f'<circle class="reach" cx="{x}" cy="{y}" r="78"/>',
    f'<g transform="translate(0 {y - MIDDLE})">{pick("A", x, kept=True)}{pick("B", x + 42)}</g>',
    f'<g transform="translate(0 {y - MIDDLE + 40})">{pick("C", x - 96)}</g>',
    *(note(x, "vote distance 60 Å", y + 98), note(x, "separation 100 Å", y + 150)),
    note(510, "B is within the vote distance:", 120),
    note(510, "a duplicate that votes for A", 139),
    note(510, "C is only within the separation:", 180),
    note(510, "a duplicate without a vote", 199),
    height=315,
)
