"""The Stable-Baselines3 Q-policy: an unmodified DQN writes text.

What the Q-values are is said in `q_network`. Playing draws from the language model, which already
is the prior mixed with the Q-values, so SB3's ε stays at 0. Legend: `n` rows, `L` width of a row.
"""

import copy
from collections.abc import Callable
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor

from textgym.errors import InputError
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.sampling import draw
from textgym.policies.sb3.exchange import Exchange
from textgym.policies.sb3.model_and_spaces import check_rows
from textgym.policies.sb3.q_network import TargetQNetwork, TextQNetwork
from textgym.policies.sb3.text_policy import TextPolicy


class SoftQPolicy(TextPolicy, BasePolicy):
    """What the text policies of DQN and QR-DQN have in common.

    :param q_temperature: α, how much reward moves the odds of a token by one nat. Small: greedier,
        and further from the prior.
    :param n_values: outputs of the value head, which the subclass fixes.
    :param temperature, top_k, top_p: how tokens are drawn while playing (see `Sampling`). This is
        what explores; SB3's ε would play uniform tokens.
    :param keywords: these three and the others are those of `TextPolicy`; `model` is also the
        prior, as it is at the start, and an illegal token has no probability in either.
    :raises InputError: if spaces and model do not fit, or a number makes no sense.
    """

    network_name = "q_net"
    network_class: type[TextQNetwork] = TextQNetwork
    target_class: type[TargetQNetwork] = TargetQNetwork

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Callable[[float], float],
        *,
        q_temperature: float = 0.5,
        n_values: int = 1,
        **keywords: Any,
    ) -> None:
        if not (0 < q_temperature < float("inf")):
            raise InputError(
                f"q_temperature must be a positive number, in reward per nat, got {q_temperature}"
            )
        self.q_temperature, self.n_values = float(q_temperature), n_values
        super().__init__(observation_space, action_space, lr_schedule, **keywords)

    @property
    def lm(self) -> LanguageModel:  # type: ignore[override]
        """The language model that plays, learns and is exported."""
        return self.network.lm

    @property
    def network(self) -> TextQNetwork:
        """The network that learns, under whichever name SB3 looks for it."""
        network = getattr(self, self.network_name)
        assert isinstance(network, TextQNetwork)
        return network

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        lm, excluded_ids = self._open_model()
        assert isinstance(self.action_space, spaces.Discrete)
        self.prior = lm.without_adapter() if self.lora else lm.frozen_reference()
        shape: dict[str, Any] = {
            "q_temperature": self.q_temperature,
            "excluded_ids": excluded_ids,
            "n_actions": int(self.action_space.n),
            "n_values": self.n_values,
            "masks": self.masks,
        }
        network = self.network_class(lm, self.prior, **shape)
        # All of it, also under an adapter: SB3's update of the target multiplies each weight.
        target = self.target_class(copy.deepcopy(lm), self.prior, **shape)
        setattr(self, self.network_name, network)
        setattr(self, f"{self.network_name}_target", target.requires_grad_(False).eval())
        self._answered_step = -1
        self._start(network.value_net.parameters(), lr_schedule)

    def _predict(self, observation: Tensor, deterministic: bool = False) -> Tensor:  # type: ignore[override]
        """Tokens `[n]` for rows `[n, L]`: drawn from the language model, or its likeliest.

        The likeliest token is argmax π_0 exp(Q/α). The largest Q-value alone would be that of a
        token whose probability is next to nothing before and after.
        """
        check_rows(observation)
        caller = "rollout" if self._is_training(deterministic) else "predict"
        decoder = self._decoder(caller, self.lm)
        logits = self.network.logits(decoder(observation), observation, caller=caller)
        if deterministic:
            tokens = logits.argmax(-1)
        else:
            log_probs = self.sampling.filter(logits).log_softmax(-1)
            tokens = draw(log_probs, self._generator(caller, log_probs.device))
        decoder.expect(tokens)
        return tokens

    def _is_training(self, deterministic: bool) -> bool:
        """Whether it is the training that asks, and not an evaluation in the midst of it.

        SB3 comes to both through `predict`. Training asks first after each step that the buffer has
        stored; a callback's evaluation asks after it. So each has a cache and draws of its own, and
        an evaluation changes nothing in the training.
        """
        stored = Exchange.of(self.observation_space).stored_steps
        if deterministic or 0 <= stored == self._answered_step:
            return False
        self._answered_step = stored
        return True

    def _train(self, mode: bool) -> None:
        self.network.train(mode)
        self.training = mode

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "q_temperature": self.q_temperature}


class TextQPolicy(SoftQPolicy, DQNPolicy):  # type: ignore[misc]  # SB3's own names differ
    """The text policy of Stable-Baselines3's DQN; its keywords are those of `SoftQPolicy`."""
