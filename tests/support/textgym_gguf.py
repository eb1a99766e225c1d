"""GGUF files as llama.cpp's converter writes them, from models of transformers'."""

import gguf
import numpy as np
import torch
import transformers
from textgym_checkpoints import END, SPARE, START, chat_tokenizer

from textgym.tokenizer import Tokenizer

SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
CLASSES = {"llama": "LlamaConfig", "qwen2": "Qwen2Config", "qwen3": "Qwen3Config"}
F32 = gguf.GGMLQuantizationType.F32
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"


def tokenizer():
    """Bytes and special tokens."""
    return chat_tokenizer()


def model_of(family, **fields):
    """A random model of transformers', norms and biases too."""
    config = getattr(transformers, CLASSES[family])(
        **{**SHAPE, "vocab_size": tokenizer().vocab_size, "rope_theta": 5000.0, **fields}
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        for key, parameter in model.named_parameters():
            if key.endswith("bias") or "norm" in key:
                parameter.add_(torch.randn_like(parameter) / 5)
    return model


def side_by_side(rows, heads):
    """The order of rows that llama.cpp wants of Llama's queries and keys."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def write_gguf(
    path, model, *, kind=F32, metadata=None, leave_out=(), change=None, vocab=None, scores=None
):
    """A GGUF file of a model.

    :param kind: how matrices are quantised.
    :param metadata: further keys, or others; None as a value leaves a key out.
    :param leave_out: tensors, by llama.cpp's names.
    :param change: a function of name and values.
    :param vocab: tokens, types and merges, instead of the tokenizer's.
    :param scores: of the tokens, where these stand in the place of merges.
    """
    config, family = model.config, model.config.model_type
    writer = gguf.GGUFWriter(path, family)
    keys = {
        f"{family}.context_length": config.max_position_embeddings,
        f"{family}.embedding_length": config.hidden_size,
        f"{family}.block_count": config.num_hidden_layers,
        f"{family}.feed_forward_length": config.intermediate_size,
        f"{family}.attention.head_count": config.num_attention_heads,
        f"{family}.attention.head_count_kv": config.num_key_value_heads,
        f"{family}.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        f"{family}.rope.freq_base": float(config.rope_parameters["rope_theta"]),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.eos_token_id": tokenizer().token_to_id(END),
        "tokenizer.ggml.bos_token_id": tokenizer().token_to_id(START),
        "tokenizer.ggml.padding_token_id": tokenizer().token_to_id(SPARE),
        "tokenizer.chat_template": TEMPLATE,
    }
    if getattr(config, "head_dim", None):
        keys[f"{family}.attention.key_length"] = config.head_dim
    adders = {bool: "add_bool", int: "add_uint32", float: "add_float32", str: "add_string"}
    for key, value in {**keys, **(metadata or {})}.items():
        if value is not None:
            getattr(writer, adders[type(value)])(key, value)
    tokens, types, merges = vocab or one_merge(*words(tokenizer()))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if scores is None:
        writer.add_token_merges(merges)
    else:
        writer.add_token_scores(scores)
    names = gguf.get_tensor_name_map(_arch(family), config.num_hidden_layers)
    tied = config.tie_word_embeddings
    for key, tensor in model.state_dict().items():
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if name in leave_out or (tied and key == "lm_head.weight"):
            continue
        values = tensor.float().numpy()
        projection = key.split(".")[-2]
        if family == "llama" and projection in ("q_proj", "k_proj"):
            q = projection == "q_proj"
            heads = config.num_attention_heads if q else config.num_key_value_heads
            values = np.ascontiguousarray(side_by_side(values, heads))
        if change is not None:
            values = change(name, values)
        if values.ndim == 2 and kind != F32:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def one_merge(tokens, types, merges):
    """The vocabulary with a merge, as the library writes no empty list."""
    return ["th", *tokens[1:]], types, [*merges, "t h"]


def _arch(family):
    return next(key for key, word in gguf.MODEL_ARCH_NAMES.items() if word == family)


def words(source: Tokenizer):
    """Tokens, llama.cpp's types and merges of a tokenizer."""
    added = source.backend.get_added_tokens_decoder()
    tokens = [source.backend.id_to_token(i) for i in range(source.vocab_size)]
    types = [3 if i in added else 1 for i in range(source.vocab_size)]
    return tokens, types, []
