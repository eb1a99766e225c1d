"""Where prompts come from, and every way in which a source can be wrong."""

import copy
import gzip
import json
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from textgym.envs.texts.prompts import PromptSource, fresh_columns
from textgym.errors import InputError
from textgym.tokenizer import Tokenizer

BYTE = Tokenizer.byte()


def source(prompts, **keywords):
    return PromptSource(prompts, BYTE, **keywords)


def drawn(prompts, **keywords):
    return source(prompts, **keywords).draw(np.random.default_rng(0))


def test_a_prompt_is_encoded_as_texts_start():
    prompt = drawn(["Hé"])
    assert prompt.text == "Hé" and prompt.columns == {}
    assert prompt.ids.tolist() == [BYTE.bos_token_id, *BYTE.encode("Hé")]
    assert prompt.ids.dtype == np.int64 and len(prompt.ids) == 4


def test_all_prompts_are_drawn_equally_often():
    prompts = source([str(i) for i in range(4)])
    generator = np.random.default_rng(0)
    counts = np.bincount([int(prompts.draw(generator).text) for _ in range(4000)])
    assert counts.min() > 900 and len(prompts) == 4  # 1,000 expected, standard deviation 27


def test_a_copied_source_knows_its_prompts():
    prompts = source(["a", "b", "c"])
    both = prompts, prompts.at(2)
    for again, prompt in (copy.deepcopy(both), pickle.loads(pickle.dumps(both))):  # noqa: S301
        assert again.place(prompt) == 2 and again.place(again.at(1)) == 1
    again = pickle.loads(pickle.dumps(prompts))  # noqa: S301
    assert again.place(prompts.at(2)) is None  # another's


FILES = {
    "p.txt": "one\ntwo words\n",
    "p.jsonl": '{"prompt": "one", "label": 1}\n\n{"prompt": "two words", "label": 2}\n',
    "p.csv": 'prompt,label\none,1\n"two words",2\n',
}


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path, name, is_packed):
    data = FILES[name].encode("utf-8-sig")
    path = tmp_path / (name + ".gz" * is_packed)
    path.write_bytes(gzip.compress(data) if is_packed else data)
    prompts = source(path)
    generator = np.random.default_rng(1)
    seen = {prompts.draw(generator).text: prompts.draw(generator) for _ in range(50)}
    assert set(seen) == {"one", "two words"} and len(prompts) == 2
    labels = {prompt.columns.get("label") for prompt in seen.values()}
    assert labels <= {"p.txt": {None}, "p.jsonl": {1, 2}, "p.csv": {"1", "2"}}[name]
    assert source(str(path)).max_tokens == 1 + len("two words")


BAD_FILES = {
    "empty.txt": (b"", "no prompts: expected at least one in .*empty.txt"),
    "blank.txt": (b"\n\n", "no prompts"),
    "latin.txt": (b"fine\ncaf\xe9\n", "latin.txt, line 2: expected UTF-8"),
    "bad.jsonl": (b'{"prompt": "a"}\n{"prompt": \n', "bad.jsonl, line 2: not JSON"),
    "list.jsonl": (b'["a"]\n', "list.jsonl, line 1: expected a JSON object, found list"),
    "key.jsonl": (b'{"text": "a"}\n', r"key.jsonl, line 1: expected the key 'prompt', got \['text"),
    "none.jsonl": (b'{"prompt": null}\n', "none.jsonl, line 1: expected a text, .* got NoneType"),
    "hole.jsonl": (b'{"prompt": "a"}\n{"prompt": ""}\n', "hole.jsonl, line 2: empty prompt"),
    "half.jsonl": (b'{"prompt": "\\ud800"}\n', "half.jsonl, line 1: a lone surrogate"),
    "cols.jsonl": (
        b'{"prompt": "a", "x": 1}\n{"prompt": "b", "y": 1}\n',
        r"cols.jsonl, line 2: expected the columns of the first prompt, \['x'\], got \['y'\]",
    ),
    "name.jsonl": (b'{"prompt": "a", "completions": 1}\n', "'completions' cannot be the name"),
    "short.csv": (b"prompt,label\na\n", "short.csv, line 2: expected 2 columns"),
    "head.csv": (b"text,label\na,1\n", "head.csv, line 2: expected the key 'prompt'"),
    "p.txt.gz": (b"not gzip", "p.txt.gz.*damaged gzip"),
    "p.parquet": (b"x", "p.parquet: expected a file ending in .txt, .jsonl, .csv"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_with_its_line(tmp_path, name):
    data, message = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        source(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "no prompts: expected at least one in the list"),
        (["a", ""], r"prompts\[1\]: empty prompt"),
        (["a", 3], r"prompts\[1\]: expected a text, .* got int"),
        (["a", "\udc80"], r"prompts\[1\]: a lone surrogate at character 0"),
        ([{"prompt": "a", "prompts": 1}], "'prompts' cannot be the name of a column"),
        ([{"prompt": "a", 3: 1}], "3 cannot be the name of a column"),
        ([{"prompt": "a", "x": 1}, "b"], r"prompts\[1\]: expected the columns of the first"),
        ({"prompt": "a"}, "must be a list of texts, a path, a dataset or a function, got dict"),
        ("nowhere.txt", "nowhere.txt: expected a text file, there is none"),
        ("One prompt", "One prompt: expected a file ending in"),
        (lambda generator: "a", "need max_prompt_tokens"),
    ],
)
def test_a_bad_source_is_refused(prompts, message):
    with pytest.raises(InputError, match=message):
        source(prompts)


def test_an_over_long_prompt_is_refused_or_cut_at_its_start_and_counted():
    with pytest.raises(InputError, match=r"prompts\[1\]: expected at most 4 tokens, .* has 7"):
        source(["abc", "abcdef"], max_prompt_tokens=4)
    cut = source(["abc", "abcdef"], max_prompt_tokens=4, truncate_prompt=True)
    assert cut.truncated_count == 1 and cut.max_tokens == 4
    generator = np.random.default_rng(0)
    texts = {cut.draw(generator).text for _ in range(20)}
    assert texts == {"abc", "def"}
    assert cut.draw(generator).ids[0] == BYTE.bos_token_id


def test_a_limit_fixes_the_width():
    assert source(["abc"], max_prompt_tokens=40).max_tokens == 40


def test_a_function_draws_from_the_generator_it_is_given():
    def sums(generator):
        a, b = generator.integers(10, size=2)
        return {"prompt": f"{a}+{b}=", "answer": int(a + b)}

    prompts = source(sums, max_prompt_tokens=8)
    one, two = (prompts.draw(np.random.default_rng(7)) for _ in range(2))
    assert one.text == two.text and one.columns == two.columns
    a, b = one.text[:-1].split("+")
    assert one.columns["answer"] == int(a) + int(b)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("", "prompt function: empty prompt"),
        (None, "prompt function: expected a text"),
        ("abcdefgh", "prompt function: expected at most 5 tokens, .* has 9"),
        ("\ud800", "prompt function: a lone surrogate"),
    ],
)
def test_a_function_that_gives_a_bad_prompt_is_an_error(answer, message):
    prompts = source(lambda generator: answer, max_prompt_tokens=5)
    with pytest.raises(InputError, match=message):
        prompts.draw(np.random.default_rng(0))


@pytest.mark.parametrize("error", [SystemExit(0), ValueError("no\nmore")])
def test_a_function_that_raises_is_one_line(error):
    def asked(generator):
        raise error

    prompts = source(asked, max_prompt_tokens=5)
    with pytest.raises(InputError, match=f"^the prompt function raised {type(error).__name__}: "):
        prompts.draw(np.random.default_rng(0))


def test_columns_are_copied_when_they_are_read_and_refused_where_they_cannot_be():
    words = ["sun"]
    prompts = source([{"prompt": "Say: ", "words": words}])
    words.clear()
    assert fresh_columns(prompts.all()[0]) == {"words": ["sun"]}
    fresh_columns(prompts.all()[0])["words"].clear()
    assert prompts.all()[0].columns == {"words": ["sun"]}
    with pytest.raises(InputError, match=r"prompts\[0\], column 'lock': a lock cannot be copied"):
        source([{"prompt": "Say: ", "lock": threading.Lock()}])


def test_characters_that_the_tokenizer_lacks_are_refused():
    vocabulary = {token: i for i, token in enumerate(["[UNK]", "[PAD]", "[EOS]", "red", "fox"])}
    backend = Backend(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    words = Tokenizer(backend, pad_token="[PAD]", eos_token="[EOS]")
    assert PromptSource(["red fox"], words).max_tokens == 2
    with pytest.raises(InputError, match=r"prompts\[0\]: the tokenizer lacks characters of 'red d"):
        PromptSource(["red dog"], words)
    letters = Backend(models.BPE({"a": 0, "<p>": 1, "<e>": 2}, []))
    dropping = Tokenizer(letters, pad_token="<p>", eos_token="<e>")
    with pytest.raises(InputError, match="the tokenizer lacks characters of 'ab'"):
        PromptSource(["ab"], dropping)


def test_columns_are_copied_for_their_reader():
    prompts = source([{"prompt": "a", "words": ["x"]}])
    prompt = prompts.draw(np.random.default_rng(0))
    fresh_columns(prompt)["words"].append("changed")
    assert fresh_columns(prompts.draw(np.random.default_rng(0))) == {"words": ["x"]}


def test_what_the_player_writes_is_not_special():
    assert BYTE.eos_token_id not in drawn(["<|eos|>"]).ids


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=5))
def test_any_unicode_prompt_is_kept_exactly(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("p") / "p.jsonl"
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    prompts = source(path)
    assert len(prompts) == len(texts)
    prompt = prompts.draw(np.random.default_rng(0))
    assert prompt.text in texts and BYTE.decode(prompt.ids.tolist()) == prompt.text
