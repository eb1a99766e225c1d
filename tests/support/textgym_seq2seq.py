"""Small encoders with decoders, as transformers writes them."""

import warnings

import torch
import transformers

from textgym.policies import CausalLM
from textgym.tokenizer import Tokenizer

STOP = 2  # of the byte tokenizer, which starts texts with 1 and fills up with 0
T5 = {
    "vocab_size": 300,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "decoder_start_token_id": 0,
    "eos_token_id": STOP,
}
BART = {
    "vocab_size": 300,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": STOP,
    "decoder_start_token_id": STOP,
}
LED = {name: value for name, value in BART.items() if name != "max_position_embeddings"} | {
    "max_encoder_position_embeddings": 64,
    "max_decoder_position_embeddings": 60,
    "attention_window": 4,
}
FAMILIES = {
    "t5": T5,
    "mt5": {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "bart": BART,
    "marian": BART,
    "led": LED,
}
FORCED = {"marian": 7}  # what is always written first


def saved(directory, family, **changed):
    """A small random checkpoint as transformers writes it, with bytes as tokens."""
    config = transformers.AutoConfig.for_model(family, **{**FAMILIES[family], **changed})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
        with torch.no_grad():  # distributions that are far from flat
            for parameter in model.parameters():
                if parameter.ndim > 1 and parameter.requires_grad and "t5" not in family:
                    parameter.mul_(4)
            if hasattr(model, "final_logits_bias"):
                model.final_logits_bias.normal_()
    if family == "mt5":
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight * 0.2)
        model.config.tie_word_embeddings = False
    model.generation_config.forced_bos_token_id = FORCED.get(family)
    model.save_pretrained(directory)
    Tokenizer.byte().write_files(directory)
    return model


def opened(directory):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*it has no cache")
        return CausalLM.from_pretrained(directory)
