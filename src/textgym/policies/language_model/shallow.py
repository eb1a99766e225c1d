"""The first layers of a language model, as a trunk that is cheaper and says more of opinions.

What stands in the last layers of a causal model foretells the next word; what a text says of its
subject is easier to read from its middle.
"""

from dataclasses import replace

from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.decoder_config import CausalLMConfig
from textgym.policies.language_model.language_model import LanguageModel


def first_layers(lm: LanguageModel, share: float) -> LanguageModel:
    """A model of the first layers with the norm behind the last, on the very same weights.

    :param share: of the layers, above 0; at least one is kept. A model that is not of our own
        decoder is given back as it is.
    """
    config = lm.config
    if not isinstance(lm, CausalLM) or not isinstance(config, CausalLMConfig):
        return lm
    count = max(1, round(share * config.num_hidden_layers))
    shallow = CausalLM(replace(config, num_hidden_layers=count), lm.tokenizer)
    wanted = shallow.state_dict().keys()
    weights = {name: weight for name, weight in lm.state_dict().items() if name in wanted}
    shallow.load_state_dict(weights, assign=True)
    shallow.finish_loading()
    return shallow.eval()
