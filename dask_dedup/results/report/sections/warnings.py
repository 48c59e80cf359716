"""The warnings: things to check before the result is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dask_dedup.hints import spell
from dask_dedup.results.command import as_flag, spell_flag
from dask_dedup.results.report.ticks import figures
from dask_dedup.results.report.wording import by_row_order, sentence

if TYPE_CHECKING:
    from dask_dedup.results.report.subject import Subject

#: The beginning of a run's warning about scores on different scales.
_SCALES = "the inputs' scores are on different scales"
#: The scores of at most this number of pickers are listed.
_LISTED = 6


def warnings(subject: Subject, scores: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return warnings, each with a heading and lines of text. `scores` is the section on scores."""
    found = []
    others = []
    manifest = subject.manifest
    for raw in manifest.get("marked_warnings", manifest["warnings"]):
        line = spell(raw, spell_flag)
        if line.startswith(_SCALES) and scores and len(scores["panels"]) > 1:
            found.append(_scales(subject, scores["panels"]))
        else:
            others.append(sentence(line))
    if (tied := by_row_order(subject)) and subject.params.scored:
        others.append(tied)
    if others:
        heading = "One thing to check" if len(others) == 1 else f"{len(others)} things to check"
        found.append({"heading": heading, "lines": others})
    return found


def _scales(subject: Subject, panels: list[dict[str, Any]]) -> dict[str, Any]:
    ranges: list[str] = []
    for panel in panels[:_LISTED]:
        low, high = (figures(value, 2) for value in panel["range"])
        run = "run " if not ranges else ""
        ranges.append(f"{panel['picker'].name} scores {run}from {low} to {high}")
    text = f"{', '.join(ranges)}."
    won = _describe_winner(subject)
    if won:
        text += f" {won}"
    advice = (
        f"If you trust one picker more, list it first and add {as_flag('prefer_input_order')}. If not, add "
        f"{as_flag('score_scale')} standing."
    )
    if not subject.params.votes_decide:
        advice += f" To choose particles that several pickers found, add {as_flag('min_votes')} 2."
    return {
        "heading": "The pickers\u2019 scores are on different scales",
        "lines": [text, advice],
    }


def _describe_winner(subject: Subject) -> str:
    """Return a sentence on the picker with the largest share of winners among duplicates of other pickers."""
    rejected = subject.rejected_by_winner.copy()
    np.fill_diagonal(rejected, 0)
    won, pairs = rejected.sum(axis=0), rejected.sum(axis=0) + rejected.sum(axis=1)
    if not pairs.any():
        return ""
    share = won / np.maximum(pairs, 1)
    best = int(np.argmax(share))
    times = (
        f"all {pairs[best]:,} times"
        if won[best] == pairs[best]
        else f"{won[best]:,} of {pairs[best]:,} times"
    )
    name, noun = subject.pickers[best].name, subject.noun
    who = "both pickers" if len(subject.pickers) == 2 else f"{name} and another picker"
    return (
        f"If {who} had a {noun} of the same particle, {name} won {times}. Perhaps this is only because its scores "
        "are larger."
    )
