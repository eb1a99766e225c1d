"""What the Chinese start model reads beside the bundled poems, on hand-made ones."""

import importlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from textgym.envs.tasks.quatrains import load_quatrains, quatrain_tokenizer
from textgym.policies.language_model.causal_lm import CausalLM

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
# 登鸛雀樓 keeps all rules, as do both halves of 山居秋暝 (its first rhymes 秋 and 流).
TOWER = "白日依山盡，黃河入海流。欲窮千里目，更上一層樓。"
HALVES = ("空山新雨後，天氣晚來秋。明月松間照，清泉石上流。",)
HALVES += ("竹喧歸浣女，蓮動下漁舟。隨意春芳歇，王孫自可留。",)


@pytest.fixture(autouse=True)
def recipes(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))


def package(directory, poems):
    """An archive like that of chinese-poetry."""
    rows = [{"author": author, "paragraphs": [text]} for author, text in poems]
    packed = json.dumps(rows, ensure_ascii=False).encode()
    path = directory / "poems.tgz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("package/dist/quantangshi/poet.tang.0.json")
        member.size = len(packed)
        archive.addfile(member, io.BytesIO(packed))
    return path


def test_quatrains_of_train_poets_alone_are_read(tmp_path, monkeypatch):
    reading = importlib.import_module("quatrains_of_train_poets")
    splits = {split: [] for split in ("train", "judge", "test")}
    for k in range(200):
        splits.setdefault(reading.split_of(f"poet {k}"), []).append(f"poet {k}")
    own, other = splits["train"][0], splits["test"][0]
    held = next(poem for poem in load_quatrains("wujue", "test"))
    mixed = f"{held.first_line}{TOWER[6:]}"  # a line of a held-out poet
    poems = [(own, "".join(HALVES)), (own, HALVES[0]), (other, TOWER), (own, mixed)]
    poems += [(own, TOWER[:12]), ("無名氏", TOWER), (own, TOWER.replace("樓", "目"))]
    path = package(tmp_path, poems)
    monkeypatch.setattr(reading, "fetch", lambda *rest: path)
    assert reading.quatrains_of_train_poets(tmp_path) == list(HALVES)


def test_of_some_poems_only_the_last_rhyme_is_learned():
    recipe = importlib.import_module("chinese_start_rhymes")
    tokenizer = quatrain_tokenizer()
    documents = recipe.RhymeDocuments([TOWER] * 400, tokenizer, seed=0)
    documents.whole = 0.25
    read = list(documents)
    learned = {tokenizer.decode(d.tokens[d.first_target :]).strip() for d in read}
    assert learned == {"樓", TOWER}
    assert sum(d.first_target == 1 for d in read) / 400 == pytest.approx(0.25, abs=0.08)


def test_characters_that_rhyme_get_like_embeddings():
    recipe = importlib.import_module("chinese_start_rhymes")
    lm = CausalLM.new(quatrain_tokenizer(), hidden_size=64, num_hidden_layers=1)
    before = lm.model.embed_tokens.weight.detach().clone()
    recipe.add_sounds(lm, 1.0, seed=0)
    added = (lm.model.embed_tokens.weight.detach() - before).numpy()
    at = {c: added[lm.tokenizer.encode(c)[0]] for c in "流樓東月入"}
    assert np.abs(at["流"] - at["樓"]).max() < 1e-5  # 下平聲十一尤, both
    assert np.abs(at["月"] - at["入"]).max() < 1e-5  # oblique, both
    assert abs(float(np.corrcoef(at["流"], at["東"])[0, 1])) < 0.5
    assert torch.equal(before[2], lm.model.embed_tokens.weight[2])  # what ends a text has no sound
