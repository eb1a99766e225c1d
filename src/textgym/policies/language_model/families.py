"""What each family of transformers' does otherwise than Llama: one row a family."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """How the decoder of a family differs from Llama's.

    :param architecture: the class of transformers' that opens it.
    :param attention_bias: biases on the query, key and value projections.
    :param qk_norm: RMSNorm on queries and keys, per head.
    :param is_gemma: Google's line: weights of norms are stored less 1, embeddings are scaled by
        √hidden_size, the gate is a GELU (its tanh approximation; Hendrycks and Gimpel 2016).
    :param has_post_norms: a further norm on each branch before it joins the residual.
    :param is_tied: head and embeddings are one table where `config.json` does not say.
    """

    architecture: str
    attention_bias: bool = False
    qk_norm: bool = False
    is_gemma: bool = False
    has_post_norms: bool = False
    is_tied: bool = False


FAMILIES = {
    "llama": Family("LlamaForCausalLM"),
    "mistral": Family("MistralForCausalLM"),
    "qwen2": Family("Qwen2ForCausalLM", attention_bias=True),
    "qwen3": Family("Qwen3ForCausalLM", qk_norm=True),
    "smollm3": Family("SmolLM3ForCausalLM", is_tied=True),
    "gemma": Family("GemmaForCausalLM", is_gemma=True, is_tied=True),
    "gemma3_text": Family(
        "Gemma3ForCausalLM", qk_norm=True, is_gemma=True, has_post_norms=True, is_tied=True
    ),
}
# Families that are near, and why they are not among them.
LEFT_OUT = {
    "gemma2": "it caps attention scores by a tanh, which no fused attention kernel computes",
    "gemma3": "it reads pictures too; Gemma 3 for text alone is gemma3_text",
}
