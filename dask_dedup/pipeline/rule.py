"""The rule of a run, in one line for the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_dedup.formats import score_label

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
        score += ", compared by rank within input and micrograph" if params.uses_standing else ""
    if params.remove_entirely:
        outcome = "all of them are rejected"
    elif params.prefer_input_order and len(roles) > 1:
        outcome = "particles of the first input win"
    else:
        stays = "stays" if params.votes_decide else "is kept"
        outcome = f"{'the best' if labels else 'one'} of them {stays}"
    outcome += _describe_votes(inputs)
    how = f"matched by {roles[0].match}"
    if roles[0].groups:
        how += f", grouped by {', '.join(roles[0].groups)}"
    shifts = ", ".join(dict.fromkeys(each.shift_name for each in roles))
    return (
        f"duplicates: {duplicates} on one micrograph ({how}); {outcome}; shift: {shifts}; {score}"
    )


def _describe_votes(inputs: Inputs) -> str:
    """Return which particles are kept for their votes, after a semicolon, or an empty text."""
    voting = inputs.voting
    if voting is None:
        return ""
    number, wanted = len(voting.pickers), []
    if voting.min_votes > 1:
        wanted.append(f"at least {voting.min_votes} of {number} pickers")
    wanted += [voting.pickers[each] for each in voting.found_by]
    unwanted = " or ".join(voting.pickers[each] for each in voting.not_found_by)
    found = " and ".join(f"by {each}" for each in wanted)
    if unwanted:
        found = f"{found}, but not by {unwanted}" if found else f"not by {unwanted}"
        return f"; kept if found {found}"
    return f"; kept if found {found}" if found else f"; the votes of {number} pickers are counted"
