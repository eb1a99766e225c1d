"""The precision of a model's products: float32, or bfloat16 by autocast over float32 weights.

Weights in bfloat16 would lose the optimizer's steps: it tells apart 256 numbers between two powers
of two, and a step of 1e-5 on a weight of 0.02 is less than that. So the weights that learn, and the
optimizer, stay in float32, and the products alone are in bfloat16 (Micikevicius et al. 2018, "Mixed
Precision Training"). Log-probabilities, values and losses are computed in float32.
"""

import copy
from typing import TypeVar

import torch
from torch import nn

from textgym.errors import InputError

M = TypeVar("M", bound=nn.Module)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def dtype_of(name: str) -> torch.dtype:
    """The precision that a word stands for.

    :raises InputError: for another word.
    """
    if not isinstance(name, str) or name not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}, got {name!r:.60}")
    return DTYPES[name]


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Products in a precision while it is entered; in float32 nothing is changed."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)


def with_half_products(model: M) -> M:
    """The same model for decoding under `autocast`, which would convert all weights at every token.

    The weights of its linear layers are there in bfloat16, as autocast rounds them, all others are
    the very same tensors: hidden states are equal bit by bit, and nothing in it learns. A model
    with an adapter comes back itself, since what is under that is in bfloat16 already.
    """
    if getattr(model, "adapter", None) is not None:
        return model
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    tokenizer = getattr(model, "tokenizer", None)
    view = copy.deepcopy(model, {**shared, id(tokenizer): tokenizer})
    for layer in view.modules():
        if isinstance(layer, nn.Linear):
            for name, weight in layer.named_parameters(recurse=False):
                half = nn.Parameter(weight.detach().to(torch.bfloat16), requires_grad=False)
                setattr(layer, name, half)
    return view
