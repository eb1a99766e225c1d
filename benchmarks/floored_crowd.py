"""The bundled crowd's taste, squashed, with a floor under the length: the algorithms' reward."""

from textgym.agents.evaluation.bundled_rewards import crowd
from textgym.demonstration.reward import training_reward
from textgym.rewards import Reward


def floored_crowd() -> Reward:
    """What the demo trains on, with the bundled n-grams instead of a model fitted on the spot."""
    return training_reward(crowd())
