"""Encoders with decoders of transformers' behind the same face: logits, cache, learning, files."""

import json
import shutil

import pytest
import tokenizers
import torch
import transformers
from textgym_seq2seq import FAMILIES, FORCED, STOP, opened, saved
from textgym_testing import rollout, set_up

import textgym
from textgym.agents.building import model_defaults
from textgym.envs.task import Task
from textgym.errors import InputError
from textgym.policies import CausalLM
from textgym.policies.language_model.cached_decoder import CachedDecoder
from textgym.policies.language_model.packing import pack_sequences
from textgym.tokenizer import Tokenizer

WITHOUT_CACHE = {"led"}


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    directory = tmp_path_factory.mktemp("t5")
    saved(directory, "t5")
    return directory


def expected_log_probs(model, begin, row):
    """`[t + 1, v]`, by transformers alone: after the prompt and after each token behind it."""
    end = row.index(STOP) + 1
    written = torch.tensor([[*begin, *row[end:]]])
    logits = model(input_ids=torch.tensor([row[:end]]), decoder_input_ids=written).logits[0]
    return logits[len(begin) - 1 :].log_softmax(-1)


def rows_of(prompts, completions):
    """A prompt with its start and end, and a completion: random tokens, so many of each."""
    generator = torch.Generator().manual_seed(0)

    def some(count):
        return torch.randint(3, 250, (count,), generator=generator).tolist()

    return [[1, *some(p), STOP, *some(c)] for p, c in zip(prompts, completions, strict=True)]


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probs_are_transformers_and_so_are_those_of_decoding(family, tmp_path):
    model, lm = saved(tmp_path, family), opened(tmp_path)
    assert lm.model.is_stepwise == (family not in WITHOUT_CACHE)
    begin = [FAMILIES[family]["decoder_start_token_id"], *filter(None, [FORCED.get(family)])]
    rows = rows_of([7, 0, 4], [5, 9, 1])
    with torch.no_grad():
        expected = [expected_log_probs(model, begin, row) for row in rows]
        found = lm.lm_head(lm.packed(*pack_sequences(rows))).log_softmax(-1)
        for row, part, whole in zip(rows, found.split([*map(len, rows)]), expected, strict=True):
            torch.testing.assert_close(part[row.index(STOP) :], whole, atol=1e-4, rtol=1e-4)
        decoder = CachedDecoder(lm, lm.tokenizer.pad_token_id)
        for place in range(24):
            shown = []  # of each slot, which row it holds and how far: they begin anew at times
            for slot, (period, shift) in enumerate(((6, 0), (9, 2), (4, 1))):
                which = (slot + (place + shift) // period) % 3
                count = min((place + shift) % period, len(expected[which]) - 1)
                shown.append((which, count))
            seen = torch.zeros(3, 18, dtype=torch.int64)
            for slot, (which, count) in enumerate(shown):
                text = rows[which][: rows[which].index(STOP) + 1 + count]
                seen[slot, : len(text)] = torch.tensor(text)
            found = lm.lm_head(decoder(seen)).log_softmax(-1)
            wanted = torch.stack([expected[which][count] for which, count in shown])
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_a_prompt_is_read_once(t5):
    """The encoder sees each prompt's tokens once, however long the completion gets."""
    lm, read = opened(t5), []
    lm.model.body.encoder.register_forward_pre_hook(
        lambda _, __, keywords: read.append(int(keywords["attention_mask"].sum())),
        with_kwargs=True,
    )
    lm.generate(["ab", "abcd"], max_new_tokens=8, seed=0)
    assert sum(read) == len("ab") + len("abcd") + 2 * len(["start", "end"])


@pytest.mark.parametrize("family", ["t5", "mt5", "bart", "marian"])
def test_what_came_in_goes_out_as_transformers_has_it(family, tmp_path):
    model, lm = saved(tmp_path / "in", family), opened(tmp_path / "in")
    lm.save_pretrained(tmp_path / "out")
    again, back = opened(tmp_path / "out"), transformers.AutoModelForSeq2SeqLM
    for name, tensor in lm.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    one, other = (tmp_path / part / "model.safetensors" for part in ("in", "out"))
    assert one.read_bytes() == other.read_bytes()
    reopened = back.from_pretrained(tmp_path / "out").eval()
    assert type(reopened) is type(model)
    words = {"input_ids": torch.arange(5, 15)[None], "decoder_input_ids": torch.arange(7)[None]}
    torch.testing.assert_close(reopened(**words).logits, model(**words).logits)
    assert again.model.begin == lm.model.begin
    assert reopened.generation_config.decoder_start_token_id == lm.model.begin[0]
    assert reopened.generation_config.forced_bos_token_id == FORCED.get(family)
    assert again.generate("ab", max_new_tokens=5, seed=0) == lm.generate(
        "ab", max_new_tokens=5, seed=0
    )


@pytest.mark.parametrize("family", ["t5", "bart", "led"])
def test_the_first_ratio_is_one(family, tmp_path):
    """Tokens drawn row by row have the probabilities that the update gives them."""
    saved(tmp_path, family)
    agent = textgym.make_agent(
        "ppo", "textgym/Length-v0", policy=opened(tmp_path), n_envs=4, n_steps=40, seed=0
    )
    for batch in rollout(set_up(agent)).get(64):
        log_prob = agent.policy.evaluate_actions(batch.observations, batch.actions.flatten())[1]
        torch.testing.assert_close(log_prob, batch.old_log_prob, atol=1e-5, rtol=0)


@pytest.mark.parametrize("agent", ["ppo", "grpo"])
def test_agents_learn_with_them_and_come_back(agent, t5, tmp_path):
    keywords = {"n_envs": 4, "seed": 0, "learning_rate": 1e-3, "kl_coef": 0.05, "policy": t5}
    made = textgym.make_agent(agent, "textgym/Length-v0", out=tmp_path / "run", **keywords)
    before = opened(t5).state_dict()
    made.learn(600)
    after = CausalLM.from_agent(made)
    changed = {k for k, v in after.state_dict().items() if not torch.equal(v, before[k])}
    both = {f"model.body.{part}.block.1.layer.0.SelfAttention.q.weight" for part in ("en", "de")}
    assert {
        name.replace(".en.", ".encoder.").replace(".de.", ".decoder.") for name in both
    } <= changed
    again = textgym.load_agent(tmp_path / "run")
    for name, tensor in made.policy.state_dict().items():
        assert torch.equal(tensor, again.policy.state_dict()[name]), name
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "run").eval()
    row = rows_of([5], [4])[0]
    found = after.lm_head(after.packed(*pack_sequences([row]))).log_softmax(-1)
    torch.testing.assert_close(found[row.index(STOP) :], expected_log_probs(model, [0], row))


def test_what_is_no_weight_never_learns(tmp_path):
    """Marian's tables of sines, which its files do not hold, and the bias of its logits."""
    saved(tmp_path / "in", "marian")
    lm = opened(tmp_path / "in")
    learned = {name for name, weight in lm.named_parameters() if weight.requires_grad}
    assert "model.body.shared.weight" in learned and "lm_head.bias" not in learned
    assert not any("embed_positions" in name for name in learned)


def test_fine_tuning_learns_the_completion_alone(t5, tmp_path):
    """The loss is that of transformers' labels."""
    rows = [{"prompt": f"ask {i}", "completion": " say it"} for i in range(8)]
    report = textgym.sft(
        rows, policy=t5, out=tmp_path / "run", steps=30, heldout=0.25, batch_size=4,
        optimizer="adamw", learning_rate=3e-3, progress_bar=False, report=print,
    )  # fmt: skip
    losses = [loss for _, loss in report.heldout]
    assert losses[-1] < 0.5 * losses[0]
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "run").eval()
    encode = Tokenizer.byte().encode
    labels = torch.tensor([[*encode(" say it"), STOP]])
    with torch.no_grad():
        each = [
            float(
                model(input_ids=torch.tensor([[1, *encode(f"ask {i}"), STOP]]), labels=labels).loss
            )
            for i in range(8)
        ]
    pairs = [(each[i] + each[j]) / 2 for i in range(8) for j in range(i)]  # two are held out
    assert min(abs(pair - min(losses)) for pair in pairs) < 1e-4


WORDS = [
    "▁",
    "▁a",
    "▁house",
    "Das",
    "▁Das",
    "▁Haus",
    "Haus",
    "a",
    "s",
    "h",
    "o",
    "u",
    "e",
    "D",
    "H",
]


def t5_tokenizer(directory):
    """One that marks the start of each word and ends texts, as T5's does."""
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), *((w, -2.0) for w in WORDS)]
    backend = tokenizers.Tokenizer(tokenizers.models.Unigram(vocabulary, unk_id=2))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    backend.decoder = tokenizers.decoders.Metaspace()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(directory)


def test_an_end_of_two_tokens(tmp_path, monkeypatch):
    """Of mBART's kind: the stop token and a language, which the encoder reads both."""
    model = saved(tmp_path, "bart")
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    backend = tokenizers.Tokenizer.from_str(json.dumps(content))
    names = {name: backend.id_to_token(i) for i, name in enumerate(("pad", "start", "stop"))}
    backend.add_special_tokens(["<en>"])
    language = backend.token_to_id("<en>")
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single=f"$A {names['stop']} <en>",
        special_tokens=[(names["stop"], STOP), ("<en>", language)],
    )
    backend.save(str(tmp_path / "tokenizer.json"))
    lm = opened(tmp_path)
    assert lm.tokenizer.encode("ab", add_special_tokens=True)[-2:] == [STOP, language]
    monkeypatch.setattr(model_defaults, "SMALL", 1)  # so that even this one is asked what it knows
    agent = textgym.make_agent(
        "ppo", "textgym/Length-v0", policy=lm, n_envs=4, n_steps=40, seed=0, out=tmp_path / "run"
    )
    for batch in rollout(set_up(agent)).get(64):
        log_prob = agent.policy.evaluate_actions(batch.observations, batch.actions.flatten())[1]
        torch.testing.assert_close(log_prob, batch.old_log_prob, atol=1e-5, rtol=0)
    prompt, written = lm.tokenizer.encode("ab", add_special_tokens=True), [7, 8, 9]
    found = lm(torch.tensor([[*prompt, *written]]))[0, len(prompt) - 1 :]
    begun = torch.tensor([[STOP, *written]])
    expected = model(input_ids=torch.tensor([prompt]), decoder_input_ids=begun).logits[0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    agent.learn(160)
    CausalLM.from_agent(agent).save_pretrained(tmp_path / "again")
    assert opened(tmp_path / "again").tokenizer == lm.tokenizer


def test_prompt_and_completion_are_texts_of_their_own(tmp_path):
    """Ids are those that transformers would train with: both start anew, the prompt is ended."""
    saved(tmp_path, "t5", eos_token_id=1)
    t5_tokenizer(tmp_path)
    theirs, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), Tokenizer.load(tmp_path)
    assert ours.encode("a house", add_special_tokens=True) == theirs("a house").input_ids
    assert ours.encode("a house") == theirs("a house").input_ids[:-1]
    written = ours.encode_continuation("a house", "Das Haus")
    assert [*written, 1] == theirs(text_target="Das Haus").input_ids
    assert ours.token_to_id("▁Das") in written
    prompt = ours.encode("a house", add_special_tokens=True)
    assert ours.decode_continuation(prompt, written) == "Das Haus"
    assert ours.encode("a</s>", add_special_tokens=True).count(1) == 1
    ours.write_files(tmp_path)
    assert (
        Tokenizer.load(tmp_path)
        == ours
        != Tokenizer(ours.backend, pad_token="<pad>", eos_token="</s>")
    )


def test_what_cannot_be_is_said_in_one_line(tmp_path, t5):
    def refused(text, directory):
        with pytest.raises(InputError) as caught:
            CausalLM.from_pretrained(directory)
        assert text in str(caught.value) and "\n" not in str(caught.value)
        assert str(directory) in str(caught.value)

    lm = tmp_path / "lm"
    for key, value, text in (
        ("decoder_start_token_id", None, "names no decoder_start_token_id"),
        ("decoder_start_token_id", 300, "must be a token id below 300, got 300"),
        ("decoder_start_token_id", True, "must be a token id below 300, got True"),
        ("is_encoder_decoder", None, 'add "is_encoder_decoder": true'),
        ("tie_word_embeddings", False, "set it to true"),
        ("num_layers", 3, "missing weights, encoder.block.2."),
        ("num_decoder_layers", 10**9, "expected from 1 to 1024 layers"),
        ("num_layers", 10**9, "expected from 1 to 1024 layers"),
        ("quantization_config", {"bits": 4}, "quantized (quantization_config)"),
    ):
        shutil.copytree(t5, lm)
        for name in ("config.json", "generation_config.json"):
            content = json.loads((lm / name).read_text())
            if name == "config.json" or key in content:
                content = {**content, key: value}
            (lm / name).write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
        refused(text, lm)
        shutil.rmtree(lm)
    for role, text in (("eos", "names no eos token"), ("decoder_start", "names no decoder_start")):
        shutil.copytree(t5, lm)
        for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
            content = json.loads((lm / name).read_text())
            kept = {k: v for k, v in content.items() if not k.startswith(f"{role}_token")}
            (lm / name).write_text(json.dumps(kept))
        refused(text, lm)
        shutil.rmtree(lm)
    left_out = {
        "prophetnet": "more to its logits than its head",
        "fsmt": "head that is no linear layer",
        "t5gemma": "is two configurations in one",
        "bigbird_pegasus": 'set it to "original_full"',
    }
    for family, text in left_out.items():
        small = {"num_encoder_layers": 1, "num_decoder_layers": 1, "hidden_size": 32}
        config = transformers.AutoConfig.for_model(family, **small)
        if family == "prophetnet":
            config.decoder_start_token_id = STOP
            transformers.AutoModelForSeq2SeqLM.from_config(config).save_pretrained(lm)
        else:
            config.save_pretrained(lm)
        Tokenizer.byte().write_files(lm)
        refused(text, lm)
        shutil.rmtree(lm)
    with pytest.raises(InputError, match="chat is of a causal model"):
        opened(t5).generate("a", max_new_tokens=2, chat=True)
    with pytest.raises(InputError, match="without the end of a prompt"):
        opened(t5)(torch.tensor([[1, 5, 6]]))
    with pytest.raises(InputError, match="needs a tokenizer that ends prompts"):
        CausalLM(opened(t5).config, Tokenizer.byte())
    with pytest.raises(InputError, match="a dialogue, and the policy is an encoder"):
        Task(
            id="me/T-v0", prompts=["a"], reward=len, tokenizer=opened(t5).tokenizer,
            max_new_tokens=4, max_context=20, reply=lambda prompt, turns: "b",
        )  # fmt: skip
    with pytest.raises(InputError, match="pretrain learns from whole texts"):
        textgym.pretrain(["a text", "another"], policy=t5, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
