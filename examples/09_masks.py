"""Action masks: a model that knows nothing writes valid JSON, and learns what to put in it.

    python examples/09_masks.py [--steps 24000] [--agent ppo]

A task's `constraint` says which completions there are: here a JSON schema. Every agent then chooses
among the tokens that still lead to one, and the text ends where it is complete.
"""

import argparse
import json

import textgym
from textgym import constraints
from textgym.policies import CausalLM

REVIEWS = [
    {"prompt": "A joy from start to end. ", "stars": 5},
    {"prompt": "Fine, but long. ", "stars": 3},
    {"prompt": "I left after ten minutes. ", "stars": 1},
]
SCHEMA = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["good", "bad"]},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "again": {"type": "boolean"},
    },
    "required": ["mood", "stars"],
}


def agreement(prompts, completions, stars):
    """1 for the stars and the mood that the review speaks of; texts that do not parse raise."""
    scores = []
    for text, wanted in zip(completions, stars, strict=True):
        said = json.loads(text)
        mood = "good" if wanted > 2 else "bad"
        scores.append((said["mood"] == mood) / 2 + (4 - abs(said["stars"] - wanted)) / 8)
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=24_000, help="completion tokens")
    parser.add_argument("--agent", default="ppo", help="any other obeys as well")
    options = parser.parse_args()

    textgym.register(
        "example/Json-v0",
        prompts=REVIEWS,
        reward=agreement,
        constraint=constraints.json_schema(SCHEMA, whitespace=""),
        max_new_tokens=48,
    )
    lm = CausalLM.new(textgym.Tokenizer.byte(), seed=0, hidden_size=64, num_hidden_layers=2)
    agent = textgym.make_agent(
        options.agent, "example/Json-v0", policy=lm, n_envs=16, seed=0, learning_rate=1e-3
    )
    for label in ("before", "after"):
        if label == "after":
            agent.learn(options.steps)
        written = textgym.evaluate(
            "example/Json-v0", policy=CausalLM.from_agent(agent), n_episodes=48, seed=1
        )
        print(f"{label}: {len(written.episodes)} texts parse, agreement {written.reward.mean:.2f}")
        for episode in written.episodes[:3]:
            print(f"    {episode.prompt}-> {episode.completion}")
    # The masks are the task's, and not in the weights: alone, the model writes what it likes.
    alone = CausalLM.from_agent(agent).generate([REVIEWS[0]["prompt"]], max_new_tokens=12)[0]
    print(f"without the constraint: {alone!r}")


if __name__ == "__main__":
    main()
