"""A dialogue: the environment answers each utterance, and the player learns to win in fewer turns.

    python examples/05_multi_turn.py [--steps 6000]

`reply(prompt, turns)` gives the environment's next words, or None to end. They join the context,
and as the player did not choose them it never learns from them.
"""

import argparse

import gymnasium

import textgym
from textgym.policies import CausalLM
from textgym.policies.pretraining import pair_documents, train_language_model

ENVIRONMENT = "example/Guess-v0"
PROMPT = "Which digit? "
SECRET = "7"


def answer(prompt, turns):
    """The environment's words after the player's last turn."""
    if SECRET in turns[-1] or len(turns) == 4:
        return None
    return " no. Again: "


def guessed(prompts, completions):
    """Asked once, at the end, about the whole dialogue: turns and needless characters cost."""
    rewards = []
    for text in completions:
        wrong_turns = text.count("no. Again: ")
        characters = len(text.replace(" no. Again: ", ""))
        cost = 0.2 * wrong_turns + 0.02 * (characters - 1)
        rewards.append(1.0 - cost if SECRET in text else -0.2)
    return rewards


def play(turns):
    """A dialogue with a scripted player; text actions, one utterance a step."""
    env = gymnasium.make(ENVIRONMENT, action="text")
    env.reset(seed=0)
    for turn in turns:
        text, reward, terminated, truncated, _ = env.step(turn)
        if terminated or truncated:
            break
    print(f"    {text!r}: reward {reward:.2f}")
    return reward


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=6_000, help="completion tokens to train on")
    options = parser.parse_args()

    tokenizer = textgym.Tokenizer.character([PROMPT, "0123456789 no. Again: "])
    textgym.register(
        ENVIRONMENT,
        prompts=[PROMPT],
        reward=guessed,
        reply=answer,
        tokenizer=tokenizer,
        max_new_tokens=16,
        max_context=96,
    )
    print("scripted players:")
    play(["3", "5", "7"])
    play(["7"])
    play(["1", "2", "3", "4", "5"])

    lm = CausalLM.new(tokenizer, seed=0, hidden_size=64, num_hidden_layers=2)
    pairs = [  # a start that knows the game: one digit, then stop
        (PROMPT + "".join(f"{wrong} no. Again: " for wrong in range(turn)), str(digit))
        for turn in range(4)
        for digit in range(10)
    ]
    documents = list(pair_documents(pairs, tokenizer, context=96))
    train_language_model(lm, documents, steps=100, batch_size=20, progress_bar=False)
    report = textgym.evaluate(ENVIRONMENT, policy=lm, n_episodes=64)
    print(f"before: mean reward {report.reward}")
    agent = textgym.make_agent("ppo", ENVIRONMENT, policy=lm, n_envs=16, learning_rate=1e-3, seed=0)
    agent.learn(options.steps)
    report = textgym.evaluate(ENVIRONMENT, policy=CausalLM.from_agent(agent), n_episodes=64)
    print(f"after: mean reward {report.reward}")
    for episode in report.episodes[:3]:
        print(f"    {episode.prompt + episode.completion!r}: reward {episode.reward:.2f}")


if __name__ == "__main__":
    main()
