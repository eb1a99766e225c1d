"""Context-free grammars: every text belongs, and masks are those of brute force."""

import importlib
import itertools
import json
import pickle

import numpy as np
import pytest
from textgym_testing import count_a, letter_tokenizer

import textgym
from textgym import constraints, registry
from textgym.constraints import GrammarConstraint, as_constraint
from textgym.constraints.automaton import LEFT
from textgym.constraints.grammar_automaton import GrammarAutomaton
from textgym.envs.task import Task
from textgym.envs.text_env import TextEnv
from textgym.errors import InputError
from textgym.tokenizer import Tokenizer

pytest.importorskip("llguidance")

EOS = 2
NESTED = 'start: pair+\npair: "a" pair* "b"\n'  # a and b as brackets
SUMS = """
start: sum
sum: product (("+" | "-") product)*
product: atom ("*" atom)*
atom: NUMBER | "(" sum ")"
NUMBER: /[1-9][0-9]{0,2}/
"""
CHINESE = 'start: "[" item ("，" item)* "]"\nitem: "苹果" | "手机" | start\n'


def is_nested(text):
    """Balanced a and b, not empty: what NESTED says, by a counter."""
    depth = 0
    for letter in text:
        depth += {"a": 1, "b": -1}.get(letter, -99)
        if depth < 0:
            return False
    return bool(text) and depth == 0


def is_sum(text):
    """Whether `SUMS` has it, by recursive descent."""

    def number(i):
        end = i
        while end < len(text) and text[end].isdigit() and end - i < 3:
            end += 1
        return end if end > i and text[i] != "0" else None

    def atom(i):
        if text[i : i + 1] == "(":
            end = several(i + 1, product, "+-")
            return end + 1 if end is not None and text[end : end + 1] == ")" else None
        return number(i)

    def product(i):
        return several(i, atom, "*")

    def several(i, part, joined):
        end = part(i)
        while end is not None and end < len(text) and text[end] in joined:
            end = part(end + 1)
        return end

    return several(0, product, "+-") == len(text)


def automaton(grammar, tokenizer=None, **keywords):
    tokenizer = tokenizer or Tokenizer.byte()
    return GrammarAutomaton(constraints.grammar(grammar), tokenizer, **keywords)


def write(found, rng, most=200, stop=0.3):
    """A random legal text and whether it ended: any legal token, stopping a little sooner."""
    state, ids = found.start, []
    while len(ids) < most:
        legal = np.flatnonzero(found.is_legal(state))
        assert len(legal)
        if EOS in legal and (len(legal) == 1 or rng.random() < stop):
            return ids, True
        ids.append(int(rng.choice([i for i in legal if i != EOS])))
        state = found.advance(state, ids[-1])
        assert state != LEFT
    return ids, False


# ---- Masks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [("a", "b"), ("a", "b", "ab", "ba", "aab", "bb")])
def test_masks_are_those_of_brute_force(tokens):
    """Through all texts of sixteen letters, tokens that straddle brackets included."""
    found = automaton(NESTED, letter_tokenizer(tokens))
    texts = ["".join(t) for n in range(17) for t in itertools.product("ab", repeat=n)]
    language = [text for text in texts if is_nested(text)]
    beginnings = {text[:i] for text in language for i in range(len(text) + 1)}
    checked = 0
    for count in range(4):
        for path in itertools.product(range(len(tokens)), repeat=count):
            text, state = "".join(tokens[i] for i in path), found.states([i + 3 for i in path])[-1]
            if text not in beginnings:
                assert state == LEFT
                continue
            expected = [i + 3 for i, token in enumerate(tokens) if text + token in beginnings]
            expected += [EOS] * is_nested(text)
            assert np.flatnonzero(found.is_legal(state)).tolist() == sorted(expected), text
            checked += 1
    assert checked >= 7


@pytest.mark.parametrize("kind", ["byte", "character", "bpe"])
@pytest.mark.parametrize(("grammar", "belongs"), [(SUMS, is_sum), (CHINESE, None)])
def test_every_text_is_accepted_by_another_parser(kind, grammar, belongs):
    texts = ["(12+3)*45-(6*78)", "[苹果，手机]，[手机，[苹果]]", "，苹果]]"] * 30
    tokenizer = {
        "byte": Tokenizer.byte,
        "character": lambda: Tokenizer.character(texts),
        "bpe": lambda: Tokenizer.train_bpe(texts, vocab_size=320),
    }[kind]()
    found, rng, ended = automaton(grammar, tokenizer), np.random.default_rng(0), set()
    for _ in range(40):
        ids, is_whole = write(found, rng)
        if is_whole:
            ended.add(tokenizer.decode(ids))
    assert len(ended) > 5
    for text in ended:
        if belongs is not None:
            assert belongs(text), text
        else:
            parsed = json.loads(
                text.replace("，", ",").replace("苹果", '"p"').replace("手机", '"s"')
            )
            assert isinstance(parsed, list) and parsed


def test_a_state_is_of_the_text_whatever_wrote_it_and_the_same_everywhere():
    tokens = letter_tokenizer(("a", "b", "ab", "aab"))
    found, other = automaton(NESTED, tokens), automaton(NESTED, tokens)
    paths = [[3, 5, 4], [6, 4], [3, 3, 4, 4]]  # a·ab·b, aab·b, a·a·b·b
    states = [found.states(path)[-1] for path in paths]
    assert len(set(states)) == 1 and states[0] == other.states(paths[0])[-1]
    again = pickle.loads(pickle.dumps(found))  # noqa: S301
    assert again.states(paths[1])[-1] == states[0]
    assert again.is_legal(states[0]).tolist() == found.is_legal(states[0]).tolist()


def test_parsers_that_were_forgotten_are_made_again(monkeypatch):
    from textgym.constraints import grammar_automaton

    path = [3, 3, 3, 4, 3, 4, 4, 4]
    many = automaton(NESTED, letter_tokenizer("ab"))
    states = many.states(path)
    expected = [many.is_legal(state).tolist() for state in states]
    monkeypatch.setattr(grammar_automaton, "_PARSERS", 2)
    few = automaton(NESTED, letter_tokenizer("ab"))
    assert few.states(path) == states
    assert [few.is_legal(state).tolist() for state in states[::-1]] == expected[::-1]
    assert len(few._parsers) <= 2


# ---- Bad input ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        ('start: pair+\npair: "(" pair* ")', r"line 2, column 19 \('pair: .*lexer error"),
        ("start: x\n", r"line 1, column 8 \('start: x'\): unknown name: \"x\""),
        ('begin: "a"', "cannot be read: no start rule found"),
        ('start: "a" |\n  "b" )', r"line 2, column 3 .*expecting rule"),
        ("", "Empty grammar"),
        ("start: /(/", r"line 1, column 8 .*invalid regex"),
        (7, "a grammar is a text in Lark's notation, got int"),
    ],
)
def test_a_grammar_that_cannot_be_read_names_line_and_column(grammar, message):
    with pytest.raises(InputError, match=message) as caught:
        constraints.grammar(grammar)
    assert "\n" not in str(caught.value)


def test_a_grammar_without_a_text_is_told():
    for grammar in ("start: start", 'start: "x" start'):
        with pytest.raises(InputError, match="no text that this tokenizer can") as caught:
            automaton(grammar)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no text that this tokenizer can write"):
        automaton('start: "z"', letter_tokenizer())


def test_a_budget_that_no_text_meets_is_told():
    found = automaton('start: "abcd" | "abcdef"', letter_tokenizer("abcdef"))
    found.check_budget(5)
    with pytest.raises(InputError, match=r"ends within max_new_tokens=4, the stop token counted"):
        found.check_budget(4)
    automaton("start: /[a-z]{90}/").check_budget(30)  # too long a search: nothing is said
    fields = {
        "prompts": ["a"],
        "reward": count_a,
        "constraint": constraints.grammar('start: "abc"'),
    }
    task = Task(id="test/G-v0", tokenizer=letter_tokenizer(), max_new_tokens=3, **fields)
    with pytest.raises(InputError, match="ends within max_new_tokens=3"):
        TextEnv(task)


def test_without_the_library_the_extra_is_named(monkeypatch):
    def missing(name, package=None):
        raise ModuleNotFoundError("no", name="llguidance")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(InputError, match=r"needs llguidance.*textgym\[grammar\]"):
        constraints.grammar(NESTED)


# ---- As the others -----------------------------------------------------------------------------


def test_it_is_plain_data():
    constraint = constraints.grammar(NESTED, after="=")
    fields = json.loads(json.dumps(vars(constraint)))
    assert as_constraint(fields) == as_constraint(constraint) == constraint
    assert constraint == GrammarConstraint(NESTED, after="=")
    assert pickle.loads(pickle.dumps(constraint)) == constraint  # noqa: S301
    with pytest.raises(InputError, match="after must be a text that ends every prompt"):
        constraints.grammar(NESTED, after="")


@pytest.mark.filterwarnings("ignore:all .* earned the same reward:UserWarning")
@pytest.mark.parametrize("word", ["maskable_ppo", "grpo"])
def test_agents_obey_and_a_checkpoint_brings_the_grammar_back(word, tmp_path):
    from textgym_testing import tiny_lm

    name = "test/Nested-v0"
    textgym.register(
        name,
        prompts=["c", "dc"],
        reward=count_a,
        max_new_tokens=7,
        tokenizer=letter_tokenizer(),
        constraint=constraints.grammar(NESTED),
    )
    seen = []

    def collect(names, _):
        seen.extend(info for info in names.get("infos", ()) if "completion" in info)
        return len(seen) < 60

    try:
        lm = tiny_lm(spread=6.0, num_hidden_layers=1)
        agent = textgym.make_agent(word, name, policy=lm, n_envs=8, seed=0, out=tmp_path / "run")
        agent.learn(600, callback=collect)
        again = textgym.load_agent(tmp_path / "run")
    finally:
        registry.tasks.unregister(name)
    whole = [info["completion"] for info in seen if info["finish_reason"] == "stop"]
    assert len(whole) > 10 and all(map(is_nested, whole))
    assert again.policy.masks.automaton.constraint == constraints.grammar(NESTED)
