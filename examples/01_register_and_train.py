"""Register a text environment, train on it, swap the algorithm: the README's ten lines.

    python examples/01_register_and_train.py [--steps 16000] [--agent ppo]

The player is a small fresh transformer that writes bytes and knows nothing. The reward is the share
of vowels, so what it learns can be seen at a glance.
"""

import argparse

from stable_baselines3.common.evaluation import evaluate_policy

import textgym
from textgym.policies import CausalLM

ENVIRONMENT = "example/Vowels-v0"
PROMPTS = ["Sing: ", "Shout: "]


def vowels(prompts, completions, **columns):
    """Share of vowels among 16 characters: texts in, one float per text out."""
    return [sum(letter in "aeiou" for letter in text) / 16 for text in completions]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=16_000, help="completion tokens to train on")
    parser.add_argument("--agent", default="ppo", help="the algorithm; `textgym agents` lists them")
    options = parser.parse_args()

    textgym.register(ENVIRONMENT, prompts=PROMPTS, reward=vowels, max_new_tokens=16)
    agent = textgym.make_agent(options.agent, ENVIRONMENT, n_envs=16, learning_rate=3e-3, seed=0)
    print(f"agent: {type(agent).__module__}.{type(agent).__name__}")

    test_env = textgym.make_vec(ENVIRONMENT, n_envs=16, seed=100)
    for label in ("before", "after"):
        if label == "after":
            agent.learn(options.steps)
        mean, _ = evaluate_policy(agent, test_env, n_eval_episodes=64, deterministic=False)
        print(f"{label}: {mean:.3f} of the reward's maximum 1.0")
        texts = CausalLM.from_agent(agent).generate(PROMPTS, max_new_tokens=16, seed=0)
        for prompt, text in zip(PROMPTS, texts, strict=True):
            print(f"    {prompt!r} -> {text!r}")


if __name__ == "__main__":
    main()
