"""Form, rhyme and tones of regulated quatrains, counted by hand on poems that everybody knows."""

import pytest

from textgym.errors import InputError, RewardError
from textgym.reward_models import Quatrain, QuatrainForm, QuatrainRhyme, QuatrainTones
from textgym.reward_models.rules.pingshui import pingshui_readings, readings
from textgym.reward_models.rules.quatrains import (
    form_score,
    quatrain_lines,
    rhyme_score,
    tone_score,
)
from textgym.rewards import call_reward
from textgym.rewards_by_name import resolve_reward

STORK_TOWER = "白日依山盡，黃河入海流。欲窮千里目，更上一層樓。"  # 登鸛雀樓
QUIET_NIGHT = "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。"  # 靜夜思, old style
BAIDI = "朝辭白帝彩雲間，千里江陵一日還。兩岸猿聲啼不住，輕舟已過萬重山。"  # 早發白帝城
BAIDI_SIMPLIFIED = "朝辞白帝彩云间，千里江陵一日还。两岸猿声啼不住，轻舟已过万重山。"
TOWER_SIMPLIFIED = "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。"
RIVER_SNOW = "千山鳥飛絕，萬徑人蹤滅。孤舟蓑笠翁，獨釣寒江雪。"  # 江雪, rhymes on an entering tone


# ---- the table ---------------------------------------------------------------


def test_the_table_has_the_106_rhymes_and_says_tones() -> None:
    table = pingshui_readings()
    assert len({rhyme for r in table.values() for rhyme in r.level}) == 30
    assert readings("流") == readings("樓") == ({"下平聲十一尤"}, False)
    assert readings("山").level == {"上平聲十五刪"}
    assert readings("間") == ({"上平聲十五刪"}, True)  # "among" level, "to part" oblique
    assert readings("還").level == {"上平聲十五刪", "下平聲一先"}
    assert readings("白") == readings("絕") == (frozenset(), True)  # entering tones
    assert readings("x") == readings("，") == readings("") == (frozenset(), False)


def test_simplified_characters_and_variants_have_the_readings_of_the_old_ones() -> None:
    for one, other in ("楼樓", "还還", "尽盡", "黄黃", "爲為", "却卻", "云雲"):
        assert readings(one).is_oblique == readings(other).is_oblique
        assert readings(one).level >= readings(other).level and any(readings(one))
    # 发 stands for 發 and 髮, 干 for itself, 乾 (level) and 幹 (oblique).
    assert readings("发") == (frozenset(), True)
    assert readings("干").level and readings("干").is_oblique and not readings("乾").is_oblique
    assert readings("啼").level == {"上平聲八齊"}  # not in the rhyme book: by its sound


# ---- lines and form ----------------------------------------------------------


def test_lines_end_at_marks_and_line_ends() -> None:
    assert quatrain_lines("白日，黃河。\n\n欲窮") == [("白日", "，"), ("黃河", "。"), ("欲窮", "")]
    assert quatrain_lines("白 日\n黃河") == [("白日", "\n"), ("黃河", "")]
    assert quatrain_lines("白日，，") == [("白日", "，"), ("", "，")]
    assert quatrain_lines("") == quatrain_lines(" \n ") == []


@pytest.mark.parametrize(
    ("text", "kept", "asked"),
    [
        (STORK_TOWER, 8, 8),
        (BAIDI, 8, 8),
        (TOWER_SIMPLIFIED, 8, 8),
        ("白日依山盡，黃河入海流！欲窮千里目；更上一層樓？", 8, 8),
        (STORK_TOWER[:-1], 7, 8),  # the last mark
        (STORK_TOWER.replace("。欲", "，欲"), 7, 8),  # a comma where a full stop belongs
        (STORK_TOWER.replace("，", "\n").replace("。", "\n"), 4, 8),  # no marks at all
        ("白日依山盡，黃河入海流。", 4, 8),
        (STORK_TOWER.replace("千里目", "千里"), 7, 8),
        (STORK_TOWER.replace("日", "x"), 7, 8),
        (STORK_TOWER[:12] + BAIDI[16:], 6, 8),  # two lines of five, two of seven
        (STORK_TOWER + "白日依山盡，", 8, 10),
        ("", 0, 8),
        ("a good film", 0, 8),
    ],
)
def test_form_is_the_share_that_is_kept(text: str, kept: int, asked: int) -> None:
    assert form_score(text) == kept / asked


def test_form_of_a_wanted_length() -> None:
    assert QuatrainForm(5).score(BAIDI) == QuatrainForm(7).score(STORK_TOWER) == 0.5  # marks only


# ---- rhyme -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "score", "with_first"),
    [
        (STORK_TOWER, 1.0, 2 / 3 / 2 + 1 / 2 / 2),  # 盡 is oblique: two of three, one of two
        (QUIET_NIGHT, 1.0, 1.0),  # 光, 霜, 鄉
        (BAIDI, 1.0, 1.0),  # 間, 還, 山
        (BAIDI_SIMPLIFIED, 1.0, 1.0),
        (RIVER_SNOW, 0.0, 0.0),  # 滅 and 雪 rhyme, on an entering tone
        (STORK_TOWER.replace("樓", "山"), 0.5, 2 / 3 / 2),  # both level, no rhyme
        (STORK_TOWER.replace("樓", "流"), 0.5, 2 / 3 / 2),  # the same character
        (STORK_TOWER.replace("樓", "目"), 0.25, 1 / 3 / 2),
        ("白日依山盡，黃河入海流。", 0.25, 1 / 3 / 2),
        ("", 0.0, 0.0),
        ("one, two. three, four.", 0.0, 0.0),
    ],
)
def test_rhyme(text: str, score: float, with_first: float) -> None:
    assert rhyme_score(text) == score
    assert QuatrainRhyme(first=True).score(text) == pytest.approx(with_first)


# ---- tones -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "agree", "asked"),
    [
        (STORK_TOWER, 11, 11),  # oblique start: 日 山 / 河 入 流 / 窮 里 目 / 上 層 樓
        (TOWER_SIMPLIFIED, 11, 11),
        (BAIDI, 15, 15),  # level start: 辭 帝 雲 / 里 陵 日 還 / 岸 聲 不 住 / 舟 過 重 山
        (BAIDI_SIMPLIFIED, 15, 15),
        # Level start: 上 (line 2) and the first 頭 (line 3) have the wrong tone.
        (QUIET_NIGHT, 9, 11),
        # Oblique start. 山 飛 / 徑 人 滅 / 舟 笠 翁 / 釣 江 雪: line 1 has 飛; of line 2 nothing;
        # of line 3 舟 and 笠; of line 4 釣 and 江. Level start: 山 / 徑 人.
        (RIVER_SNOW, 5, 11),
        (STORK_TOWER.replace("樓", "目"), 10, 11),
        (STORK_TOWER.replace("日依山", "雲依日"), 9, 11),  # 雲 and 日 for 日 and 山
        (STORK_TOWER.replace("日依山", "x依y"), 9, 11),
        ("黃河入海流，白日依山盡。更上一層樓，欲窮千里目。", 8, 11),  # couplets turned round
        ("白日依山盡，黃河入海流。", 5, 11),
        (STORK_TOWER.replace("千里目", "千里"), 8, 11),  # a line of another length
        ("", 0, 11),
    ],
)
def test_tones(text: str, agree: int, asked: int) -> None:
    assert tone_score(text) == agree / asked


def test_tones_of_a_wanted_length() -> None:
    assert QuatrainTones(7).score(STORK_TOWER) == 0.0
    assert QuatrainTones(5).score(STORK_TOWER) == QuatrainTones().score(STORK_TOWER) == 1.0


# ---- the rewards -------------------------------------------------------------


@pytest.mark.parametrize("name", ["quatrain_form", "quatrain_rhyme", "quatrain_tones", "quatrain"])
def test_a_prompt_may_be_part_of_the_poem(name: str) -> None:
    prompts, rest = [STORK_TOWER[:6], "p"], [STORK_TOWER[6:], STORK_TOWER]
    together = resolve_reward(f"{name},include_prompt=true")
    assert call_reward(together, prompts[:1], rest[:1], {}).scores == [1.0]
    alone = call_reward(resolve_reward(name), prompts, rest, {}).scores
    assert alone[0] < 1.0 and alone[1] == 1.0
    with pytest.raises(RewardError, match="expected a text"):
        resolve_reward(name)(["p"], [None])


def test_the_mean_with_its_components() -> None:
    answer = call_reward(Quatrain(), ["p"] * 2, [RIVER_SNOW, QUIET_NIGHT], {})
    assert list(answer.scores) == pytest.approx([(1 + 0 + 5 / 11) / 3, (1 + 1 + 9 / 11) / 3])
    assert {name: list(part) for name, part in answer.components.items()} == {
        "form": [1.0, 1.0],
        "rhyme": [0.0, 1.0],
        "tones": [5 / 11, 9 / 11],
    }


@pytest.mark.parametrize("make", [QuatrainForm, QuatrainTones, Quatrain])
def test_other_lengths_are_refused(make: type) -> None:
    with pytest.raises(InputError, match=r"syllables must be 5 or 7, or 0 .*, got 6"):
        make(6)
