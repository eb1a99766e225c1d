"""A checkpoint is a directory that transformers opens: same tokens, same logits.

    python examples/07_transformers.py [--steps 200]

It goes the other way too: `CausalLM.from_pretrained` opens Llama, SmolLM2, Qwen2, Qwen3 and Mistral
checkpoints, and `make_agent(policy=...)` trains them.
"""

import argparse
import importlib.util
import tempfile

import torch

import textgym
from textgym.envs.tasks import movie_reviews
from textgym.policies import CausalLM
from textgym.policies.pretraining import text_documents, train_language_model

PROMPT = "The film is"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=200, help="pretraining steps")
    options = parser.parse_args()
    if importlib.util.find_spec("transformers") is None:
        print("transformers is not installed: pip install transformers, then run this again")
        return
    from transformers import AutoModelForCausalLM, AutoTokenizer, logging

    logging.disable_progress_bar()

    texts = movie_reviews.review_texts("judge")[:1000]
    tokenizer = textgym.Tokenizer.train_bpe(texts, vocab_size=512)
    lm = CausalLM.new(tokenizer, seed=0, hidden_size=64, num_hidden_layers=2)
    documents = list(text_documents(texts, tokenizer, context=128))
    train_language_model(lm, documents, steps=options.steps, progress_bar=False)

    with tempfile.TemporaryDirectory() as folder:
        lm.save_pretrained(folder)
        their_tokenizer = AutoTokenizer.from_pretrained(folder)
        their_model = AutoModelForCausalLM.from_pretrained(folder)
        tokens = torch.tensor([tokenizer.encode(PROMPT, add_special_tokens=True)])
        print(f"opened as {type(their_model).__name__}")
        print(f"same tokens: {their_tokenizer(PROMPT)['input_ids'] == tokens[0].tolist()}")
        with torch.no_grad():
            difference = (their_model(tokens).logits - lm(tokens)).abs().max().item()
        print(f"largest difference of logits: {difference:.1e}")
        greedy = their_model.generate(
            tokens, max_new_tokens=16, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
        written = greedy[0, tokens.shape[1] :].tolist()
        theirs = tokenizer.decode_continuation(tokens[0].tolist(), written)
        ours = lm.generate([PROMPT], max_new_tokens=16, temperature=0)[0]
        print(f"theirs: {PROMPT}{theirs}")
        print(f"ours:   {PROMPT}{ours}")


if __name__ == "__main__":
    main()
