"""A secret number for each game, and three guesses that are answered: python FILE [--steps 36000]

Who ignores the answers wins 3 games of 7; who halves what is left wins them all."""

import argparse

import textgym
from textgym import Reply, constraints
from textgym.policies import CausalLM


def draw(np_random):
    return {"prompt": "Guess? ", "secret": str(np_random.integers(7))}


def answer(turns, secret):
    if turns[-1] == secret or len(turns) == 5:
        return Reply(" Yes." if turns[-1] == secret else " No.", terminated=True)
    return Reply(" More? " if turns[-1] < secret else " Less? ", reward=-0.05)


def found(prompts, completions, turns):
    return [float(said[-1]["text"] == " Yes.") for said in turns]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=36_000, help="tokens to train on")
    steps = parser.parse_args().steps
    tokenizer = textgym.Tokenizer.character("0123456 GuessMoreLessYesNo?.")
    lm = CausalLM.new(tokenizer, hidden_size=48, num_hidden_layers=2, max_position_embeddings=36)
    game = {"prompts": draw, "reply": answer, "reward": found, "tokenizer": tokenizer}
    game |= {"constraint": constraints.regex("[0-6]", after="? "), "max_context": 36}
    textgym.register("me/Number-v0", max_prompt_tokens=8, max_new_tokens=6, **game)
    settings = {"n_envs": 64, "n_steps": 12, "n_epochs": 8, "batch_size": 256, "seed": 0}
    agent = textgym.make_agent("ppo", "me/Number-v0", policy=lm, learning_rate=2e-3, **settings)
    report = textgym.evaluate("me/Number-v0", policy=agent.learn(steps), n_episodes=200)
    print(f"reward {report.reward}")
    print(*(repr(episode.prompt + episode.completion) for episode in report.episodes[:5]), sep="\n")
