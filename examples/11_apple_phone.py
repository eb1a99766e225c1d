"""[苹果，手机，苹果手机] → [手机，苹果，苹果手机]: read into z, and written from z alone.

    python examples/11_apple_phone.py [--steps 1000] [--timesteps 20000]

The task behind the pair: in lists of known words, in combinations that training never saw, the
first two items change places. A text autoencoder has to put the whole list into 32 numbers; the
transformer policy of the other examples sees the list itself, copies it after a short supervised
start, and learns the rest by PPO from a reward. Both are asked the same held-out lists
(docs/vae.md).
"""

import argparse
import itertools

import numpy as np

import textgym
from textgym.policies import CausalLM, TextVAE
from textgym.policies.pretraining import pair_documents, train_language_model
from textgym.policies.vae.documents import translation_documents
from textgym.policies.vae.objective import AgainstCollapse, EvidenceLowerBound

WORDS = (
    "苹果 手机 苹果手机 电脑 手表 香蕉 葡萄 相机 耳机 西瓜 "
    "电视 茶杯 雨伞 书包 桌子 椅子 铅笔 钥匙 眼镜 帽子"
).split()
PRINTED = ("苹果", "手机", "苹果手机")
HELD_OUT = 300


def written(words):
    """A list as a text: [苹果，手机，苹果手机]."""
    return f"[{'，'.join(words)}]"


def swapped(words):
    """The first two change places."""
    return (words[1], words[0], *words[2:])


def divided():
    """Lists to learn from, and held-out ones, among them the one that the document prints."""
    lists = list(itertools.permutations(WORDS, 3))
    order = np.random.default_rng(0).permutation(len(lists))
    lists = [lists[i] for i in order if lists[i] != PRINTED]
    return lists[HELD_OUT - 1 :], [PRINTED, *lists[: HELD_OUT - 1]]


def known_words():
    """A tokenizer with one token a word: 苹果手机 is one, not an apple and a phone."""
    return textgym.Tokenizer.words(["[ ， ] " + " ".join(WORDS)], vocab_size=512)


def by_autoencoder(training, held_out, steps):
    """The texts that an autoencoder writes for the held-out lists, from z alone."""
    tokenizer = known_words()
    shape = {"architecture": "transformer", "hidden_size": 64, "num_hidden_layers": 2}
    vae = TextVAE.new(tokenizer, latent_size=32, max_position_embeddings=32, mean_scale=0, **shape)
    pairs = [(written(words), written(swapped(words))) for words in training]
    documents = list(translation_documents(pairs, tokenizer, context=32))
    # A list is log(20 · 19 · 18) = 8.8 nats, for which the KL term must leave ample room.
    measures = AgainstCollapse(kl_warmup=1.0, free_bits=1.5, decorrelation=0.0)
    objective = EvidenceLowerBound(vae, measures)
    options = {"batch_size": 32, "learning_rate": 4e-3, "progress_bar": False}
    train_language_model(objective, documents, steps=steps, **options)
    mean, _ = vae.encode([written(words) for words in held_out])
    return vae.decode(mean, max_new_tokens=20)


def by_policy(training, held_out, steps, timesteps):
    """The texts of the transformer policy for the same lists, before and after PPO."""
    tokenizer = known_words()
    lm = CausalLM.new(tokenizer, seed=0, hidden_size=64, num_hidden_layers=2)
    pairs = [(written(words), written(swapped(words))) for words in training]
    documents = list(pair_documents(pairs, tokenizer, context=64))
    train_language_model(lm, documents, steps=steps, batch_size=32, progress_bar=False)
    answers = {written(words): words for words in training}

    def right_places(prompts, completions):
        """Share of the three places that hold the right word; a text that is no list gets 0."""
        scores = []
        for prompt, text in zip(prompts, completions, strict=True):
            said = text[1:-1].split("，") if text[:1] + text[-1:] == "[]" else []
            right = swapped(answers[prompt])
            hits = sum(a == b for a, b in zip(said, right, strict=False))
            scores.append(hits / 3 if len(said) == 3 else 0.0)
        return scores

    textgym.register(
        "example/Swap-v0", prompts=list(answers), reward=right_places, max_new_tokens=20
    )
    agent = textgym.make_agent("ppo", "example/Swap-v0", policy=lm, learning_rate=1e-4, seed=0)
    asked = [written(words) for words in held_out]
    before = lm.generate(asked, max_new_tokens=20, temperature=0)
    agent.learn(timesteps)
    return before, CausalLM.from_agent(agent).generate(asked, max_new_tokens=20, temperature=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=1000, help="of the autoencoder")
    parser.add_argument("--timesteps", type=int, help="of PPO (default: 20 for each of the steps)")
    options = parser.parse_args()

    training, held_out = divided()
    expected = [written(swapped(words)) for words in held_out]
    print(f"{len(training)} lists of {len(WORDS)} words to learn from, {len(held_out)} held out")

    def show(who, texts):
        share = sum(a == b for a, b in zip(texts, expected, strict=True)) / len(expected)
        print(f"{who}: {written(PRINTED)} → {texts[0]}, held-out lists right: {share:.1%}")

    show("autoencoder, from z alone", by_autoencoder(training, held_out, options.steps))
    timesteps = options.timesteps or 20 * options.steps
    before, after = by_policy(training, held_out, max(1, options.steps // 10), timesteps)
    show("policy, after the supervised start", before)
    show("policy, after PPO", after)


if __name__ == "__main__":
    main()
