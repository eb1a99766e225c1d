"""Learned reward models from disk: which kind a directory holds, and the trunk it stands on."""

from pathlib import Path

from torch import nn

from textgym.errors import InputError
from textgym.policies.language_model.models_by_name import open_model
from textgym.policies.language_model.run_checkpoints import checkpoints_of, read_first_whole
from textgym.reward_models.learned.bradley_terry import BradleyTerryRewardModel
from textgym.reward_models.learned.ensemble import KIND as ENSEMBLE
from textgym.reward_models.learned.ensemble import Ensemble
from textgym.reward_models.learned.ngrams import NgramModel
from textgym.reward_models.learned.process import ProcessRewardModel
from textgym.reward_models.learned.transformers_trunk import TRUNK_FILE, TransformersTrunk
from textgym.reward_models.learned.trunk_reward import TRUNK_FOLDER, TrunkRewardModel
from textgym.reward_models.lexicon_scores import KIND as LEXICON
from textgym.reward_models.lexicon_scores import LexiconScores
from textgym.rewards import Reward
from textgym.storage import read_json

_TRUNK_KINDS: dict[str, type[TrunkRewardModel]] = {
    kind.kind: kind for kind in (TrunkRewardModel, BradleyTerryRewardModel, ProcessRewardModel)
}


def load_reward(directory: str | Path) -> Reward:
    """A reward model that was saved: `fit_reward`'s on a trunk, one on n-grams, or several as one.

    The trunk is opened here and handed over, so that reward models know no language model.

    :raises InputError: if the directory holds none.
    """
    return read_first_whole(reward_directories(directory), _read_reward, must_have_manifest=True)


def reward_directories(path: str | Path) -> list[Path]:
    """The reward models that a path may mean: itself, or those of a run directory.

    :raises InputError: if there is none.
    """
    places = checkpoints_of(path, "reward_model.json")
    if not places:
        raise InputError(
            f"{path}: holds no reward_model.json, so it is no reward model (fit-reward)"
        )
    return places


def _read_reward(directory: Path) -> Reward:
    fields = read_json(directory / "reward_model.json")
    kind = fields.get("kind") if isinstance(fields, dict) else None
    if kind == ENSEMBLE:
        return Ensemble.from_pretrained(directory, _read_member)
    if isinstance(kind, str) and kind in _TRUNK_KINDS:
        trunk = open_trunk(directory / TRUNK_FOLDER)
        return _TRUNK_KINDS[kind].from_pretrained(directory, trunk)
    if kind == LEXICON:
        return LexiconScores.from_pretrained(directory)
    return NgramModel.from_pretrained(directory)


def _read_member(directory: Path) -> Reward:
    """A member of an ensemble, which is none itself: directories do not nest without end."""
    fields = read_json(directory / "reward_model.json")
    if isinstance(fields, dict) and fields.get("kind") == ENSEMBLE:
        raise InputError(f"{directory}: an ensemble inside an ensemble")
    return _read_reward(directory)


def open_trunk(directory: Path) -> nn.Module:
    """The trunk that a reward model saved: our language model, or a model of transformers'.

    :raises InputError: naming the file and what is wrong with it.
    """
    if (directory / TRUNK_FILE).is_file():
        return TransformersTrunk.reopen(directory)
    return open_model(directory)
