"""A checkpoint as other people publish them: the stop token is the pad token too, and more."""

import json
import shutil

from front_door import SHAPE
from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from textgym.policies.language_model.causal_lm import CausalLM
from textgym.tokenizer import Tokenizer
from textgym.tokenizer_files import TokenizerFiles

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>\n{% endfor %}"
END, START, SPARE, FURTHER = "<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|eot|>"
CHATML = """{% for message in messages %}
    {% if loop.first and message['role'] != 'system' %}
{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>' + '\n' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
# After Llama 3's: a start token, headers of two tokens, a token that ends a turn but no text.
HEADERS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
LLAMA3 = """{{ bos_token }}{% for message in messages %}
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
{{- message['content'] | trim + '<|eot_id|>' }}{% endfor %}
{% if add_generation_prompt %}
{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""


def chat_tokenizer(more=(), **keywords):
    """Bytes and four special tokens, none of them ours.

    :param more: names of further special tokens.
    """
    state = json.loads(Tokenizer.byte().to_json())
    state["added_tokens"], state["post_processor"] = [], None
    names = {"<|pad|>": "!pad", "<|bos|>": "!bos", "<|eos|>": "!eos"}
    vocabulary = state["model"]["vocab"]
    state["model"]["vocab"] = {names.get(token, token): i for token, i in vocabulary.items()}
    backend = Backend.from_str(json.dumps(state))
    specials = [AddedToken(name, special=True) for name in (SPARE, START, END, FURTHER, *more)]
    backend.add_special_tokens(specials)
    return Tokenizer(
        backend, **{"pad_token": SPARE, "eos_token": END, "bos_token": START, **keywords}
    )


def with_template(template, *, keywords=None, **files):
    """A tokenizer that has a template in its settings.

    :param keywords: as `chat_tokenizer`'s.
    """
    settings = {} if template is None else {"chat_template": template}
    return chat_tokenizer(files=TokenizerFiles(settings=settings, **files), **(keywords or {}))


def write_chat_model(directory, *, config=None, settings=None, generation=None):
    """A model's directory as transformers leaves it, with `pad_token` and `eos_token` the same.

    :param config, settings, generation: keys of `config.json`, `tokenizer_config.json` and
        `generation_config.json`; None as a value removes a key.
    """
    shutil.rmtree(directory, ignore_errors=True)
    CausalLM.new(chat_tokenizer(), seed=0, **SHAPE).save_pretrained(directory)
    (directory / "manifest.json").unlink()
    change(directory / "config.json", {"pad_token_id": None, **(config or {})})
    change(directory / "tokenizer_config.json", {"pad_token": END, **(settings or {})})
    if generation is not None:
        change(directory / "generation_config.json", generation)
    return directory


def change(path, keys):
    """Set keys of a JSON file, or remove those that are None."""
    content = json.loads(path.read_text()) if path.exists() else {}
    content = {k: v for k, v in {**content, **keys}.items() if v is not None}
    path.write_text(json.dumps(content))


def read(path):
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
