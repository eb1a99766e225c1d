"""Text actions: one utterance a step, from the same task that token agents play.

    python examples/06_text_actions.py [--steps 4]

For scripted players, other people's models, or a person at a keyboard. The same words earn the same
reward as when they are written token by token.
"""

import argparse

import gymnasium

import textgym  # importing it registers the ids

ENVIRONMENT = "textgym/Keyword-v0"


def player(observation, info):
    """Anything that turns text into text; this one reads the column `keyword`."""
    return f"Gladly: {info['keyword']}!" if info["keyword"] != "tea" else "No."


def by_tokens(text, seed):
    """The same episode with token actions; returns its reward."""
    env = gymnasium.make(ENVIRONMENT)
    env.reset(seed=seed)
    tokenizer = env.unwrapped.tokenizer
    for token in [*tokenizer.encode(text), tokenizer.eos_token_id]:
        _, reward, terminated, truncated, _ = env.step(token)
        if terminated or truncated:
            return reward
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=6, help="utterances, one episode each")
    options = parser.parse_args()

    env = gymnasium.make(ENVIRONMENT, action="text", render_mode="ansi")
    print(f"textgym {textgym.__version__}: {ENVIRONMENT} takes {type(env.action_space).__name__}")
    for seed in range(options.steps):
        observation, info = env.reset(seed=seed)
        action = player(observation, info)
        _, reward, _, _, info = env.step(action)
        same = by_tokens(action, seed) == reward
        print(
            f"{env.render()!r}: {reward:.1f} ({info['finish_reason']}; by tokens the same: {same})"
        )


if __name__ == "__main__":
    main()
