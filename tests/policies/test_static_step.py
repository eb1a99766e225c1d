"""Decoding with steps of one shape, replayed as a CUDA graph replays them: the same results."""

import pytest
import torch
from front_door import ENV, byte_lm, small_agent
from textgym_families import FAMILY_SHAPES
from textgym_testing import PAD, tiny_lm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import textgym
from textgym.errors import InputError
from textgym.policies.language_model.cached_decoder import CachedDecoder
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.static_step import cuda_graph
from textgym.tokenizer import Tokenizer

aten = torch.ops.aten
# What a CUDA graph cannot hold: numbers that the processor waits for, or brings.
FROM_OR_TO_THE_PROCESSOR = (
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.lift_fresh.default,
)


class Kernels(TorchDispatchMode):
    """Writes down each operation with the very tensors that it read and wrote."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func not in FROM_OR_TO_THE_PROCESSOR, func
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self):
        """All of them once more, with results where the first ones stand: no Python in between."""
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            for first, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(first, torch.Tensor) and first.data_ptr() != new.data_ptr():
                    first.copy_(new)


class Captures:
    """A capture that counts itself."""

    def __init__(self):
        self.count = self.replays = 0

    def __call__(self, step, device):
        self.count += 1
        kernels = Kernels()
        with kernels:
            step()

        def replay():
            self.replays += 1
            kernels.replay()

        return replay


@torch.no_grad()
@pytest.mark.parametrize("capture", [cuda_graph, Captures()], ids=["as it is", "replayed"])
@pytest.mark.parametrize("family", FAMILY_SHAPES)
def test_every_family_steps_as_a_full_pass_does(family, capture):
    lm = tiny_lm(**FAMILY_SHAPES[family])
    lm.capture_steps(capture)
    plain, decoder = CachedDecoder(lm, PAD, use_cache=False), CachedDecoder(lm, PAD)
    rows = torch.full((3, 12), PAD)
    for i, row in enumerate([[3], [4, 5, 6, 3], [5, 5]]):
        rows[i, : len(row)] = torch.tensor(row)
    ends, given = torch.tensor([1, 4, 2]), []
    for i in range(7):
        hidden = decoder(rows)
        torch.testing.assert_close(hidden, plain(rows), rtol=1e-4, atol=1e-5)
        given.append((hidden, hidden.clone()))
        rows[torch.arange(3), ends] = torch.tensor([3 + i % 4, 6 - i % 4, 4])
        ends += 1
        if i == 3:  # one row begins anew
            rows[1], ends[1] = torch.tensor([6, 4, *[PAD] * 10]), 2
    # What was given stays: the buffers that a replay writes are nobody else's.
    assert all(torch.equal(hidden, then) for hidden, then in given)


@pytest.mark.parametrize(
    ("name", "keywords"),
    [
        ("ppo", {}),
        ("ppo", {"lora_rank": 2}),
        ("ppo", {"value_trunk": "own", "dtype": "bfloat16"}),
        ("grpo", {"dtype": "bfloat16"}),
        ("grpo", {"lora_rank": 2, "kl_coef": 0.1}),
        ("nlpo", {}),
    ],
    ids=str,
)
def test_training_writes_the_same_tokens_from_few_captures(name, keywords):
    settings = {"n_envs": 4, "seed": 0, "env_kwargs": {"max_new_tokens": 6}, **keywords}
    settings |= {} if name == "grpo" else {"n_steps": 32}
    texts, weights, captures = [], [], Captures()
    for is_static in (False, True):
        agent = textgym.make_agent(
            name, ENV, policy=byte_lm(), learning_rate=1e-4, cuda_graphs=is_static, **settings
        )
        if is_static:
            assert agent.policy.lm.model.capture is cuda_graph
            agent.policy.lm.model.capture = captures
        written = []
        forward = agent.policy.forward

        def noted(obs, deterministic=False, forward=forward, written=written):
            result = forward(obs, deterministic)
            written.append(result[0].clone())
            return result

        agent.policy.forward = noted
        size = agent.n_steps * agent.n_envs if hasattr(agent, "n_steps") else 1
        agent.learn(2 * size)
        texts.append(torch.cat(written))
        weights.append(torch.cat([w.detach().flatten() for w in agent.policy.parameters()]))
    assert torch.equal(*texts)
    assert len(texts[0].unique()) > 20
    tolerance = 2e-3 if "dtype" in keywords else 2e-5
    torch.testing.assert_close(*weights, rtol=0, atol=tolerance)
    assert captures.count > 1  # one a rollout at least: weights in bfloat16 are others then
    assert captures.replays >= 5 * captures.count


def test_what_is_no_transformer_and_what_is_no_switch_are_refused():
    lstm = CausalLM.new(
        Tokenizer.byte(), architecture="lstm", hidden_size=16, max_position_embeddings=96
    )
    with pytest.raises(InputError, match="cuda_graphs is of the transformer"):
        small_agent(lm=lstm, cuda_graphs=True)
    with pytest.raises(InputError, match="cuda_graphs must be True or False, got 'yes'"):
        small_agent(cuda_graphs="yes")
