"""The rule of a run, in one line for the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_dedup.formats.score_label import score_label

if TYPE_CHECKING:
    from dask_dedup.particles.inputs import Inputs


def describe_rule(inputs: Inputs) -> str:
    """Return a log line that states which particles are duplicates and which of them wins."""
    params, roles = inputs.params, inputs.roles
    if params.undo_symmetry_expansion:
        duplicates = "symmetry copies of one particle (sym_expand/src_uid)"
    elif params.min_separation == 0:
        duplicates = "particles with the same stored coordinates"
    else:
        duplicates = f"particles at most {params.min_separation:g} A apart"
    score = "score: none, seeded choice"
    labels = [
        (label, "higher" if each.higher_is_better else "lower")
        for each, table in zip(roles, inputs.tables, strict=True)
        if (label := score_label(table, each.score))
    ]
    if labels:
        score = ", ".join(f"{label} ({side} is better)" for label, side in dict.fromkeys(labels))
        score = score if score.startswith("score") else f"score: {score}"
        score += ", compared by standing" if params.uses_standing else ""
    if params.remove_entirely:
        outcome = "all of them are rejected"
    elif params.prefer_input_order and len(roles) > 1:
        outcome = "particles of the first input win"
    else:
        outcome = f"{'the best' if labels else 'one'} of them is kept"
    outcome += _describe_votes(inputs)
    how = f"matched by {roles[0].match}"
    if roles[0].groups:
        how += f", grouped by {', '.join(roles[0].groups)}"
    shifts = ", ".join(dict.fromkeys(each.shift_name for each in roles))
    return (
        f"duplicates: {duplicates} on one micrograph ({how}); {outcome}; shift: {shifts}; {score}"
    )


def _describe_votes(inputs: Inputs) -> str:
    """Return for which votes a particle is kept, as the end of a clause, or an empty text."""
    voting = inputs.voting
    if voting is None:
        return ""
    number = len(voting.pickers)
    rules = [voting.pickers[each] for each in voting.found_by]
    if voting.min_votes > 1:
        rules.insert(0, f"at least {voting.min_votes} of {number} pickers")
    missed = [voting.pickers[each] for each in voting.not_found_by]
    if missed:
        rules.append(f"{'none of ' if len(missed) > 1 else 'not '}{', '.join(missed)}")
    if not rules:
        return f", and the votes of {number} pickers are counted"
    return f" if it was found by {' and '.join(rules)}"
