"""With the cache and without it the results are the same, whatever the rows do."""

import numpy as np
import pytest
import torch
from textgym_testing import PAD, letter_tokenizer, tiny_lm
from textgym_toy_lm import recurrent_lm

from textgym.errors import InputError
from textgym.policies.language_model.cached_decoder import CachedDecoder

WIDTH, TOKENS = 9, 7


class Player:
    """Rows that grow, stay, restart, shrink and change, and the plain answer for them."""

    def __init__(self, seed, n=4, trunk=None):
        self.rng = np.random.default_rng(seed)
        self.lm = tiny_lm(seed=seed, num_key_value_heads=1 + seed % 2)
        trunk = trunk or self.lm.model
        self.decoder = CachedDecoder(trunk, PAD)
        self.plain = CachedDecoder(trunk, PAD, use_cache=False)
        self.lists = [self.fresh() for _ in range(n)]

    def token(self):
        return int(self.rng.integers(1, TOKENS))

    def fresh(self):
        return [self.token() for _ in range(self.rng.integers(1, 5))]

    def rows(self, lists=None):
        lists = self.lists if lists is None else lists
        return torch.tensor([[*row, *[PAD] * (WIDTH - len(row))] for row in lists])

    def change(self, row):
        kind = self.rng.choice(
            ["grow", "grow", "grow", "same", "restart", "shrink", "edit", "jump"]
        )
        if kind == "restart" or len(row) == WIDTH:
            return self.fresh()
        if kind == "grow":
            return [*row, self.token()]
        if kind == "jump":
            return [*row, *self.fresh()][:WIDTH]
        if kind == "shrink":
            return row[: self.rng.integers(1, len(row) + 1)]
        if kind == "edit":
            row = list(row)
            row[self.rng.integers(len(row))] = self.token()
        return row

    def check(self):
        rows = self.rows()
        torch.testing.assert_close(self.decoder(rows), self.plain(rows), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["decoder", "lstm", "recurrent"])
@pytest.mark.parametrize("seed", range(25))
def test_any_sequence_of_rows_gives_what_a_full_pass_gives(seed, kind):
    trunk = {
        "decoder": lambda: None,
        "lstm": lambda: tiny_lm(seed=seed, architecture="lstm").model,
        "recurrent": lambda: recurrent_lm(letter_tokenizer(), seed=seed),
    }[kind]()
    player = Player(seed, n=1 + seed % 5, trunk=trunk)
    for _ in range(25):
        if player.rng.random() < 0.3:
            player.lists = [player.change(row) for row in player.lists]
        elif player.rng.random() < 0.2:
            player.lists = [player.fresh() for _ in player.lists]  # all rows at once
        else:
            player.lists = [
                [*row, player.token()] if len(row) < WIDTH else player.fresh()
                for row in player.lists
            ]
        player.check()


@torch.no_grad()
@pytest.mark.parametrize("seed", range(25))
def test_peeking_at_truncated_rows_is_right_and_shared(seed):
    player = Player(seed)
    passes = []
    player.decoder.trunk.register_forward_hook(lambda *_: passes.append(1))
    for _ in range(15):
        player.lists = [row if len(row) < WIDTH else player.fresh() for row in player.lists]
        player.check()
        actions = [player.token() for _ in player.lists]
        player.decoder.expect(torch.tensor(actions))
        ahead = [[*row, action] for row, action in zip(player.lists, actions, strict=True)]
        is_ended = player.rng.random(len(ahead)) < 0.4
        before = len(passes)
        for i in np.flatnonzero(is_ended):
            row = player.rows([ahead[i]])
            hidden = player.decoder.peek(row)
            assert hidden is not None
            assert len(passes) == before + 1  # one pass for all of them
            torch.testing.assert_close(hidden, player.plain(row), rtol=0, atol=1e-5)
            passes.pop()
        other = player.rows([[1, 2, 3, 4, 5, 6, 1, 2]])
        answer = player.decoder.peek(other)
        assert answer is None or (other == player.rows(ahead)).all(1).any()
        player.lists = [
            player.fresh() if ended else row for ended, row in zip(is_ended, ahead, strict=True)
        ]


@torch.no_grad()
def test_a_row_that_goes_on_after_a_peek_costs_no_second_pass():
    player = Player(0, n=2)
    player.lists = [[3, 4], [5]]
    player.check()
    player.decoder.expect(torch.tensor([6, 6]))
    assert player.decoder.peek(player.rows([[5, 6]])) is not None
    passes = []
    player.decoder.trunk.register_forward_hook(lambda *_: passes.append(1))
    player.lists = [[3, 4, 6], [5, 6]]
    player.decoder(player.rows())
    assert passes == []
    player.check()


@torch.no_grad()
def test_a_cached_step_reads_one_token_a_row():
    player = Player(0, n=3)
    counts = []
    player.decoder.trunk.register_forward_hook(
        lambda module, arguments, out: counts.append(len(arguments[0]))
    )
    player.lists = [[3, 4, 5], [3], [3, 4]]
    player.decoder(player.rows())
    player.decoder(player.rows([[3, 4, 5, 6], [3, 6], [3, 4, 6]]))
    player.decoder(player.rows([[3, 4, 5, 6, 6], [4, 5, 6, 3], [3, 4, 6, 3]]))
    assert counts == [3 + 2 + 1, 3, 3 + 3]


@torch.no_grad()
def test_changed_weights_are_noticed():
    player = Player(0)
    player.check()
    player.lm.model.layers[0].mlp.up_proj.weight.mul_(2.0)
    player.check()
    state = {name: 0.5 * tensor for name, tensor in player.lm.model.state_dict().items()}
    player.lm.model.load_state_dict(state)
    player.check()
    player.decoder.expect(torch.full((4,), 3))
    ahead = player.rows([[*player.lists[0], 3]])
    player.lm.model.norm.weight.add_(1.0)
    assert player.decoder.peek(ahead) is None


@torch.no_grad()
def test_other_shapes_start_anew():
    player = Player(0)
    player.check()
    player.lists = player.lists[:2]
    player.check()
    wide = torch.nn.functional.pad(player.rows(), (0, 3), value=PAD)
    torch.testing.assert_close(player.decoder(wide), player.plain(wide), rtol=0, atol=1e-5)


@torch.no_grad()
def test_an_interrupted_pass_leaves_no_wrong_cache(monkeypatch):
    player = Player(1, n=2)
    player.lists = [[3, 4, 5], [3, 4, 5]]
    player.check()
    block = player.lm.model.layers[1]

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(block, "forward", interrupt)
    player.lists = [[6, 6, 6], [3, 4, 5, 6]]
    with pytest.raises(KeyboardInterrupt):
        player.decoder(player.rows())
    monkeypatch.undo()
    player.lists = [[3, 4, 5], [3, 4, 5, 6]]
    player.check()


def test_with_gradients_the_answer_has_a_graph_and_the_cache_is_left_alone():
    player = Player(2)
    with torch.no_grad():
        player.check()
        cache = player.decoder.cache
    hidden = player.decoder(player.rows())
    hidden.sum().backward()
    assert player.lm.model.embed_tokens.weight.grad is not None
    assert player.decoder.cache is cache and not cache.keys[0].requires_grad
    with torch.no_grad():
        player.check()


def test_an_empty_row_is_refused():
    with pytest.raises(InputError, match="an observation without any token"):
        CachedDecoder(tiny_lm().model, PAD)(torch.tensor([[3, 4], [PAD, PAD]]))


@torch.no_grad()
def test_padding_inside_a_row_is_a_token_like_any_other():
    """An environment takes it as one, and random play writes it."""
    player = Player(0, n=2)
    player.lists = [[3, 4], [5]]
    player.check()
    player.lists = [[3, 4, PAD, 5], [5, PAD, PAD, 6]]
    player.check()
    player.decoder.expect(torch.tensor([PAD, 3]))
    player.lists = [[3, 4, PAD, 5], [5, PAD, PAD, 6, 3]]
    player.check()
