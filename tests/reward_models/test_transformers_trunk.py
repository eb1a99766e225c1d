"""transformers' models as trunks: what they say, where they are cut, and what is refused."""

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from textgym.agents.building.reward_checkpoint import load_reward
from textgym.envs.texts.labelled_rows import Preference
from textgym.errors import InputError
from textgym.reward_models.learned.fitting import fit_reward_model
from textgym.reward_models.learned.transformers_trunk import TransformersTrunk
from textgym.reward_models.learned.trunk_reward import TrunkRewardModel

transformers = pytest.importorskip("transformers")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "bad", "film"]


def write_tokenizer(folder):
    """Words as tokens, with [CLS] before and [SEP] after them."""
    backend = Backend(WordLevel({word: k for k, word in enumerate(WORDS)}, "[UNK]"))
    backend.pre_tokenizer = Whitespace()
    backend.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    backend.save(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A BERT of two layers with random weights, as transformers writes it."""
    folder = tmp_path_factory.mktemp("encoder") / "bert"
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=12, pad_token_id=0,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def causal_model(tmp_path_factory):
    """A GPT-2 of one layer with random weights, as transformers writes it."""
    folder = tmp_path_factory.mktemp("causal") / "gpt2"
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(WORDS), n_embd=8, n_layer=1, n_head=2, n_positions=12,
        bos_token_id=2, eos_token_id=3, pad_token_id=0,
    )  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def test_hidden_states_are_the_models_own_whatever_the_padding(encoder):
    trunk = TransformersTrunk.open(encoder, layers=2)
    rows = trunk.tokenizer.encode_batch(["a good film", "bad"], add_special_tokens=True)
    assert rows == [[2, 4, 5, 7, 3], [2, 6, 3]]
    tokens = torch.tensor([rows[0], [*rows[1], 7, 7]])
    model = transformers.AutoModel.from_pretrained(encoder).eval()
    with torch.no_grad():
        both = trunk.hidden_states(tokens, torch.tensor([5, 3]))
        alone = model(torch.tensor([rows[1]]), output_hidden_states=True).hidden_states
    assert both.shape == (2, 5, 16)
    assert torch.allclose(both[1, :3], torch.cat(alone[-2:], dim=-1)[0], atol=1e-6)
    assert (trunk.config.hidden_size, trunk.config.max_position_embeddings) == (16, 12)


def test_a_reward_model_on_it_comes_back_and_transformers_opens_its_trunk(encoder, tmp_path):
    model = TrunkRewardModel(TransformersTrunk.open(encoder, layers=2), heads=2, per_token=True)
    model.standardise(["a good film", "bad", "film"])
    model.save_pretrained(tmp_path / "rm")
    again = load_reward(tmp_path / "rm")
    prompts, ends = ["a", ""], [" good film", "bad"]
    answer = model(prompts, ends)
    assert again(prompts, ends).scores == answer.scores
    assert [span[:2] for span in answer.spans[0]] == [(1, 5), (6, 10)]
    opened = transformers.AutoModel.from_pretrained(tmp_path / "rm" / "trunk")
    assert torch.equal(opened.embeddings.word_embeddings.weight, model.trunk.model.embeddings.word_embeddings.weight)  # fmt: skip # noqa: E501
    listed = json.loads((tmp_path / "rm" / "manifest.json").read_text(encoding="utf-8"))
    assert "trunk/model.safetensors" in json.dumps(listed)
    assert np.isfinite(model.raw(["film " * 40])).all()  # longer than the context: its end


@pytest.mark.parametrize("family", ["encoder", "causal_model"])
def test_a_whole_trunk_learns_and_a_seed_means_the_same_weights(family, request, tmp_path):
    """Right is who says "good" last: the order of two words, which no mean of frozen words has."""
    ends = [
        ("bad good", "good bad"),
        ("bad film good", "good film bad"),
        ("bad a good", "good a bad"),
    ]
    rows = [
        Preference(prompt, chosen, rejected)
        for prompt in ("a ", "film ", "a film ", "film a ")
        for chosen, rejected in ends
    ]

    def fitted():
        trunk = TransformersTrunk.open(request.getfixturevalue(family))
        torch.manual_seed(3)
        model = TrunkRewardModel(trunk)
        before = {name: value.clone() for name, value in model.trunk.named_parameters()}
        report = fit_reward_model(
            model, rows[:9], rows[9:], choice=rows[:9], seed=0, steps=60, batch_size=9,
            optimizer="adamw", learning_rate=2e-2, evaluations=0,
        )  # fmt: skip
        moved = [n for n, v in model.trunk.named_parameters() if not torch.equal(v, before[n])]
        return model, report, moved

    model, report, moved = fitted()
    assert report.pair_accuracy == 1.0 and report.steps == 60  # on prompts that it has not seen
    assert any("attn" in name or "attention" in name for name in moved)
    assert any("wte" in name or "word_embeddings" in name for name in moved)
    again, _, _ = fitted()
    for one, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    model.save_pretrained(tmp_path / "rm")
    texts = ["bad good", "good bad"]
    loaded = load_reward(tmp_path / "rm")
    assert loaded(["a ", "a "], texts) == model(["a ", "a "], texts)


def test_what_would_run_code_or_read_pickles_is_refused(encoder, tmp_path):
    for name, change in (("code", {"auto_map": {"AutoModel": "evil.Model"}}), ("kind", {})):
        (tmp_path / name).mkdir()
        for file in encoder.iterdir():
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
        config = json.loads((encoder / "config.json").read_text(encoding="utf-8")) | change
        (tmp_path / name / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match="code of its own"):
        TransformersTrunk.open(tmp_path / "code")
    (tmp_path / "kind" / "model.safetensors").rename(tmp_path / "kind" / "pytorch_model.bin")
    with pytest.raises(InputError, match="pickled weights are not read"):
        TransformersTrunk.open(tmp_path / "kind")
    with pytest.raises(InputError, match="layers from 1 to 2"):
        TransformersTrunk.open(encoder, layers=3)
    with pytest.raises(InputError, match=r"config\.json"):
        TransformersTrunk.open(tmp_path / "nowhere")
