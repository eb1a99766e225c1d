"""Chinese text with a character tokenizer: learn a shopping list by heart, then to order it.

    python examples/08_chinese.py [--steps 12000]

Nothing but the tokenizer and the texts changes. The model is pretrained on lists in any order; the
reward then asks for 苹果, 手机, 苹果手机: each once, the short ones first.
"""

import argparse
import itertools

import textgym
from textgym.policies import CausalLM
from textgym.policies.pretraining import pair_documents, train_language_model

WORDS = ["苹果", "手机", "苹果手机"]
PROMPT = "清单："


def ordered(prompts, completions):
    """Share of places that hold the right word, out of three."""
    return [
        sum(said == word for said, word in zip(text.split("，"), WORDS, strict=False)) / len(WORDS)
        for text in completions
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=12_000, help="completion tokens of RL")
    options = parser.parse_args()

    lists = ["，".join(order) for order in itertools.permutations(WORDS)]
    tokenizer = textgym.Tokenizer.character([PROMPT, *lists])
    print(f"{tokenizer.vocab_size} tokens; 手机 is {len(tokenizer.encode('手机'))} of them")
    lm = CausalLM.new(tokenizer, seed=0, hidden_size=32, num_hidden_layers=2)
    documents = list(pair_documents([(PROMPT, text) for text in lists], tokenizer, context=32))
    train_language_model(lm, documents, steps=300, batch_size=6, progress_bar=False)

    textgym.register("example/List-v0", prompts=[PROMPT], reward=ordered, max_new_tokens=16)
    agent = textgym.make_agent("ppo", "example/List-v0", policy=lm, kl_coef=0.05, seed=0)
    for label in ("before", "after"):
        if label == "after":
            agent.learn(options.steps)
        texts = CausalLM.from_agent(agent).generate([PROMPT] * 64, max_new_tokens=16, seed=0)
        print(f"{label}: reward {sum(ordered([], texts)) / len(texts):.2f}")
        for text in texts[:3]:
            print(f"    {PROMPT}{text}")


if __name__ == "__main__":
    main()
