"""The Bradley-Terry reward model: a trunk whose score differences are log-odds of winning."""

from typing import Any

from torch import nn

from textgym.reward_models.learned.objectives import BradleyTerry, bradley_terry_loss
from textgym.reward_models.learned.trunk_reward import OLD_KIND, TextTokenizer, TrunkRewardModel

__all__ = ["BradleyTerryRewardModel", "bradley_terry_loss"]


class BradleyTerryRewardModel(TrunkRewardModel):
    """`TrunkRewardModel` with the objective of Bradley & Terry 1952, by which it is known longest.

    :param trunk, tokenizer, keywords: see `TrunkRewardModel`.
    """

    kind = OLD_KIND

    def __init__(
        self, trunk: nn.Module, tokenizer: TextTokenizer | None = None, **keywords: Any
    ) -> None:
        name = keywords.pop("name", OLD_KIND)
        super().__init__(trunk, tokenizer, **{"objective": BradleyTerry(), **keywords}, name=name)
