"""Shapes of tiny models: of each family that our decoder runs, as `CausalLM.new` takes them, and
`SMALL` and `GPT2`, as transformers' configurations do."""

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
FAMILY_SHAPES = {
    "llama": {},
    "llama untied": {"tie_word_embeddings": False, "rope_theta": 300.0},
    "llama 3 rope": {"rope_scaling": LLAMA3, "max_position_embeddings": 128},
    "mistral": {"model_type": "mistral", "num_key_value_heads": 2},
    "qwen2": {"attention_bias": True, "tie_word_embeddings": False},
    "qwen3": {"qk_norm": True, "rms_norm_eps": 1e-6},
    "smollm3": {"model_type": "smollm3", "layer_rope_thetas": (700.0, None), "rope_theta": 700.0},
    "gemma": {"model_type": "gemma", "tie_word_embeddings": False},
    "gemma3_text": {
        "model_type": "gemma3_text",
        "qk_norm": True,
        "layer_rope_thetas": (300.0, 2e4),
        "rope_theta": 2e4,
        "query_pre_attn_scalar": 20,
    },
}
SMALL = {
    "vocab_size": 300,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
GPT2 = {"vocab_size": 300, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
