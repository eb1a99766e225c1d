"""Judges that joined a study after runs of it were finished: asked about the stored texts."""

from collections.abc import Callable

from textgym.agents.comparison.found_runs import find_runs
from textgym.agents.comparison.rescoring import rescore_runs
from textgym.agents.runs.held_out import Judge
from textgym.errors import InputError
from textgym.paths import absolute
from textgym.planning.plan import Plan
from textgym.rewards import reward_name
from textgym.rewards_by_name import resolve_reward


def ask_later_judges(plan: Plan, say: Callable[[str], None]) -> None:
    """Have every judge of a study score the finished runs whose record lacks it.

    One that cannot (it keeps a running state, or raises) is left out, and said to be.

    :param say: shows a line of text.
    :raises StorageError: if scores cannot be written.
    """
    places = [absolute(plan.directory(cell, seed)) for cell in plan.cells for seed in plan.seeds]
    places = [place for place in places if place.is_dir()]
    runs = [run for run in find_runs(places).runs if run.is_whole] if places else []
    for spec, (name, role) in plan.judges.items():
        lacking = [r for r in runs if r.record and name not in r.record.settings.judges]
        reward = resolve_reward(spec) if lacking else None
        if reward is None or reward_name(reward) != name:
            continue
        say(f"{name} scores the stored texts of {len(lacking)} finished runs")
        judge = Judge("gold" if role == "gold" else "shadow", spec)
        try:
            rescore_runs(lacking, [(reward, judge)])
        except InputError as error:
            say(f"{name} says nothing of finished runs: {error}")
