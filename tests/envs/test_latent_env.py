"""Latent actions: what a z earns is what its words earn; a batch is its rows, one by one."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_sb3
from textgym_latents import LetterDecoder
from textgym_testing import letter_tokenizer

import textgym
from textgym import registry
from textgym.envs.replies import Reply
from textgym.errors import InputError, RewardError

ID = "test/Latent-v0"


def letters(prompts, completions):
    return [
        c.count("a") - 0.5 * c.count("b") + 0.1 * len(p)
        for p, c in zip(prompts, completions, strict=True)
    ]


def register(**fields):
    settings = {"prompts": ["a", "ab", "bc"], "reward": letters, "max_new_tokens": 6, **fields}
    textgym.register(ID, tokenizer=letter_tokenizer(), **settings)


@pytest.fixture(autouse=True)
def task():
    register()
    yield
    registry.tasks.unregister(ID)
    gymnasium.registry.pop(ID, None)


def make(**keywords):
    return gymnasium.make(ID, **{"action": "latent", "decoder": LetterDecoder(), **keywords})


@pytest.mark.filterwarnings("ignore:.*normalized")  # z is in standard deviations
def test_both_checkers_pass():
    check_env(make().unwrapped, skip_render_check=True)
    check_sb3(make().unwrapped)


def test_the_spaces_are_those_of_the_decoder():
    env = make(latent_limit=2.5)
    assert env.action_space == gymnasium.spaces.Box(-2.5, 2.5, (2,), np.float32)
    assert env.observation_space == gymnasium.spaces.Box(-10.0, 10.0, (3,), np.float32)


def test_a_latent_earns_what_its_words_earn():
    env, spoken = make(), gymnasium.make(ID, action="text")
    for seed in range(4):
        seen, info = env.reset(seed=seed)
        _, other = spoken.reset(seed=seed)
        assert info == other
        assert seen.tolist() == [info["prompt"].count(c) for c in "abc"]
        _, reward, terminated, truncated, ending = env.step(np.array([-1.0, 2.0], np.float32))
        words = ("d" if info["prompt"].endswith("c") else "a") * 4
        _, expected, *ends, same = spoken.step(words)
        assert (reward, [terminated, truncated], ending) == (expected, ends, same)
        assert ending["completion"] == words and ending["finish_reason"] == "stop"
        assert ending["completion_length"] == 5  # the stop token counts


def test_actions_are_cut_to_the_limit():
    register(prompts=["a"])
    env = make(latent_limit=1.0)
    env.reset(seed=0)
    _, _, _, _, ending = env.step(np.array([99.0, 99.0], np.float32))
    assert ending["completion"] == "ccc"  # as z = (1, 1)


def test_a_text_that_meets_the_budget_ends_there():
    register(max_new_tokens=3, unfinished_score=-7.0, prompts=["a"])
    env = make()
    env.reset(seed=0)
    _, reward, terminated, _, ending = env.step(np.array([-1.0, 2.0], np.float32))
    assert (reward, terminated, ending["finish_reason"]) == (-7.0, True, "length")
    assert ending["completion"] == "aaa"


def test_the_prior_costs_half_the_squared_norm():
    env, free = make(prior_coef=0.5), make()
    for one in (env, free):
        one.reset(seed=0)
    z = np.array([-1.0, 2.0], np.float32)
    _, reward, _, _, ending = env.step(z)
    _, without, *_ = free.step(z)
    assert reward == pytest.approx(without - 0.5 * 0.5 * 5.0)
    assert ending["reward_components"] == {"prior": pytest.approx(-1.25)}


def test_sampled_texts_are_drawn_from_the_seed():
    texts = set()
    for seed in (0, 0, 1, 2, 3):
        env = make(decoding="sampled")
        env.reset(seed=seed)
        texts.add((seed, env.step(np.zeros(2, np.float32))[4]["completion"]))
    assert len({seed for seed, _ in texts}) == len(texts)  # the same seed, the same text
    assert len({text for _, text in texts}) > 1


def test_a_batch_plays_as_its_rows_do():
    decoder = LetterDecoder()
    native = gymnasium.make_vec(ID, num_envs=5, action="latent", decoder=decoder, prior_coef=0.1)
    rows = gymnasium.vector.SyncVectorEnv(
        [lambda: make(prior_coef=0.1).unwrapped] * 5,
        autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP,
    )
    seen, _ = native.reset(seed=7)
    other, _ = rows.reset(seed=7)
    np.testing.assert_array_equal(seen, other)
    rng = np.random.default_rng(0)
    for step in range(6):
        z = rng.normal(size=(5, 2)).astype(np.float32) * 2
        one, two = native.step(z), rows.step(z)
        for mine, theirs in zip(one[:4], two[:4], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-6)
        assert (
            one[4]["final_info"]["completion"].tolist()
            == two[4]["final_info"]["completion"].tolist()
        )
        np.testing.assert_array_equal(one[4]["final_obs"].tolist(), two[4]["final_obs"].tolist())
        assert decoder.calls[step] == 5


def test_the_reward_model_is_asked_once_for_a_batch():
    sizes = []

    def counted(prompts, completions):
        sizes.append(len(completions))
        return [float(len(c)) for c in completions]

    register(reward=counted)
    env = gymnasium.make_vec(ID, num_envs=6, action="latent", decoder=LetterDecoder())
    env.reset(seed=0)
    z = np.linspace(-1, 2, 12).reshape(6, 2).astype(np.float32)  # texts of different lengths
    rewards = env.step(z)[1]
    assert sizes == [6] and len(set(rewards.tolist())) > 1


def test_a_step_that_fails_changes_nothing():
    is_down = [True]

    def fails_once(prompts, completions):
        if is_down[0]:
            raise OSError("down")
        return [1.0] * len(completions)

    register(reward=fails_once)
    env = gymnasium.make_vec(ID, num_envs=2, action="latent", decoder=LetterDecoder())
    before, infos = env.reset(seed=0)
    z = np.zeros((2, 2), np.float32)
    with pytest.raises(RewardError, match="down"):
        env.step(z)
    is_down[0] = False
    _, rewards, terminated, _, ended = env.step(z)
    assert rewards.tolist() == [1.0, 1.0] and terminated.all()
    assert ended["final_info"]["prompt"].tolist() == infos["prompt"].tolist()
    np.testing.assert_array_equal(np.stack(list(ended["final_obs"])), before)


def test_texts_that_exceed_the_decoders_context_are_refused_when_it_is_made():
    """Not when such a prompt is drawn, hours later. Here each letter is a token."""

    class Short(LetterDecoder):
        context = 9

    register(prompts=["a", "aaa"], max_new_tokens=6)
    make(decoder=Short()).reset(seed=0)  # 3 + 6
    for fields, message in (
        ({"prompts": ["a", "aaaa"], "max_new_tokens": 6}, "prompt and budget together take 10 tok"),
        (
            {"prompts": ["a"], "max_new_tokens": 4, "max_context": 6, "reply": lambda p, t: None},
            "take 10 tokens, but the decoder's context is 9: lower max_context or max_new_tokens",
        ),
    ):
        register(**fields)
        for n in (None, 2):
            with pytest.raises(InputError, match=message):
                if n is None:
                    make(decoder=Short())
                else:
                    gymnasium.make_vec(ID, num_envs=n, action="latent", decoder=Short())


def test_a_latent_for_each_turn_of_a_dialogue():
    def reply(prompt, turns):
        return None if len(turns) == 3 else Reply("b", reward=0.25)

    register(reply=reply, max_context=24, max_new_tokens=12, prompts=["a"])
    env, spoken = make(), gymnasium.make(ID, action="text")
    for one in (env, spoken):
        one.reset(seed=0)
    seen, reward, terminated, _, info = env.step(np.array([-1.0, 0.0], np.float32))
    assert (reward, terminated, info) == (0.25, False, {})
    assert spoken.step("aa")[1] == 0.25
    assert seen.tolist() == [3.0, 1.0, 0.0]  # the text so far is "aaab"
    _, reward, terminated, _, ending = env.step(np.array([0.0, 0.0], np.float32))
    _, expected, _, _, same = spoken.step("bb")
    assert terminated and (reward, ending) == (expected, same)
    assert [turn["text"] for turn in ending["turns"]] == ["aa", "b", "bb"]


def test_a_batch_whose_dialogues_end_at_different_times():
    def reply(prompt, turns):
        return None if "c" in turns[-1] or len(turns) == 3 else Reply("a")

    register(reply=reply, max_context=40, max_new_tokens=20, prompts=["a", "b"])
    native = gymnasium.make_vec(ID, num_envs=3, action="latent", decoder=LetterDecoder())
    rows = gymnasium.vector.SyncVectorEnv(
        [lambda: make().unwrapped] * 3,
        autoreset_mode=gymnasium.vector.AutoresetMode.SAME_STEP,
    )
    native.reset(seed=1)
    rows.reset(seed=1)
    rng = np.random.default_rng(3)
    ended = 0
    for _ in range(8):
        z = rng.normal(size=(3, 2)).astype(np.float32)
        one, two = native.step(z), rows.step(z)
        for mine, theirs in zip(one[:4], two[:4], strict=True):
            np.testing.assert_allclose(mine, theirs)
        ended += int(one[2].sum())
    assert 4 < ended < 24


def test_making_it_for_stable_baselines3():
    env = textgym.make_vec(ID, 4, seed=0, decoder=LetterDecoder())
    seen = env.reset()
    assert seen.shape == (4, 3) and seen.dtype == np.float32
    seen, rewards, dones, infos = env.step(np.zeros((4, 2), np.float32))
    assert dones.all() and rewards.dtype == np.float32
    assert all(info["completion"] and info["terminal_observation"].shape == (3,) for info in infos)
    assert [info["episode"]["r"] for info in infos] == pytest.approx(rewards.tolist())


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"action": "latent"}, "latent actions need a decoder"),
        ({"decoder": LetterDecoder()}, "decoder goes with action=\"latent\", got action='token'"),
        ({"prior_coef": 0.1, "action": "text"}, 'prior_coef goes with action="latent"'),
        ({"action": "vector"}, "unknown action 'vector'"),
        ({"action": "latent", "decoder": 5}, "decode_latents; int has no latent_size"),
        ({"action": "latent", "decoder": textgym}, "decode_latents; module has no latent_size"),
        ({"action": "latent", "decoder": LetterDecoder(), "latent_limit": 0.0}, "latent_limit"),
        ({"action": "latent", "decoder": LetterDecoder(), "decoding": "greed"}, "greedy"),
        ({"action": "latent", "decoder": LetterDecoder(), "prior_coef": -1.0}, "prior_coef"),
        ({"action": "latent", "decoder": LetterDecoder(), "prior_coef": "a"}, "prior_coef must be"),
        (
            {"action": "latent", "decoder": LetterDecoder(), "latent_limit": True},
            "latent_limit must",
        ),
        (
            {"action": "latent", "decoder": LetterDecoder(), "tokenizer": textgym.Tokenizer.byte()},
            "the decoder has another vocabulary",
        ),
    ],
)
def test_what_does_not_go_together_is_one_line(keywords, message):
    with pytest.raises(InputError, match=message):
        gymnasium.make(ID, **keywords)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (np.array([np.nan, 0.0]), "finite numbers"),
        (np.zeros(3), r"shape \[1, 2\], got \(1, 3\)"),
        ("aaa", "latents must be numbers"),
        (np.zeros(2, complex), "latents must be real numbers, got complex ones"),
    ],
)
def test_a_wrong_action_is_refused_and_changes_nothing(action, message):
    env = make().unwrapped
    env.reset(seed=0)
    with pytest.raises(InputError, match=message):
        env.step(action)
    assert env.step(np.zeros(2, np.float32))[2]


def test_a_step_after_the_end_is_refused():
    env = make().unwrapped
    env.reset(seed=0)
    env.step(np.zeros(2, np.float32))
    with pytest.raises(InputError, match="the episode is over"):
        env.step(np.zeros(2, np.float32))
