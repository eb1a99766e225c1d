"""The long form: Stable-Baselines3's own PPO, its own keywords, three classes of textgym's.

    python examples/02_long_form.py [--steps 16000]

What `make_agent` fills in stands here in full: the policy class, the buffer class and the KL term
to the starting model. `TextActorCriticPolicy` and `EpisodeRolloutBuffer` are given to an unmodified
algorithm; A2C takes the same two.
"""

import argparse

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

import textgym
from textgym.agents import EpisodeRolloutBuffer, KLPenalty
from textgym.optimization import ScaledAdam
from textgym.policies import CausalLM, TextActorCriticPolicy

PROMPT = "Spell: "


def small_letters(prompts, completions):
    """Share of the 16 places that hold a letter from a to z."""
    return [sum("a" <= letter <= "z" for letter in text) / 16 for text in completions]


class ShowProgress(BaseCallback):
    """One line per rollout, from what Stable-Baselines3 keeps anyway."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        episodes = self.model.ep_info_buffer
        if episodes and self.num_timesteps % 4096 == 0:
            reward = np.mean([episode["r"] for episode in episodes])
            length = np.mean([episode["l"] for episode in episodes])
            print(
                f"{self.num_timesteps:>8,} tokens: reward {reward:.3f}, {length:.1f} tokens a text"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=16_384, help="completion tokens to train on")
    options = parser.parse_args()

    lm = CausalLM.new(textgym.Tokenizer.byte(), seed=0, hidden_size=64, num_hidden_layers=2)
    textgym.register(
        "example/Letters-v0", prompts=[PROMPT], reward=small_letters, max_new_tokens=16
    )
    env = textgym.make_vec("example/Letters-v0", n_envs=16, seed=0, tokenizer=lm.tokenizer)
    kl = KLPenalty(lm, kl_coef=0.01, kl_estimator="k1")
    agent = PPO(
        TextActorCriticPolicy,
        env,
        policy_kwargs={
            "model": lm,  # copied: your model stays as it is
            "optimizer_class": ScaledAdam,
            "value_lr_scale": 10.0,  # the value head learns ten times as fast as its trunk
        },
        rollout_buffer_class=EpisodeRolloutBuffer,
        rollout_buffer_kwargs={"kl": kl},
        learning_rate=3e-3,
        n_steps=32,
        batch_size=128,
        n_epochs=4,
        gamma=1.0,
        seed=0,
    )
    agent.learn(options.steps, callback=ShowProgress())

    trained = CausalLM.from_agent(agent)
    print(f"KL to the start: {agent.rollout_buffer.episode_kl.mean():.2f} nats per text")
    for text in trained.generate([PROMPT] * 3, max_new_tokens=16, seed=1):
        print(f"    {PROMPT}{text!r}")


if __name__ == "__main__":
    main()
