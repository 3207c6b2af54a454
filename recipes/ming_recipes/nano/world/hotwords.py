"""Lists of words to listen for that have nothing to do with what is said.

Short lists of names alone teach that something of a list is always said. A list that a user keeps
for all recordings is long, and mostly none of it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ming_recipes.nano.world.names import NAMES, alike
from ming_recipes.nano.world.scene import pick
from ming_recipes.nano.world.vocabulary import Language

SIZE = (4, 16)

_ENGLISH = (
    "airport algorithm Amsterdam antenna April Atlantic backlog bakery barrel battery bicycle "
    "biology Boston budget cabinet calcium camera Canada candle castle cement chapter chimney "
    "cinnamon clinic coffee compiler concert cotton database December dentist diesel Dublin eagle "
    "elephant embassy engine Europe fabric factory festival firewall Florence forest furnace "
    "garlic geology glacier guitar harbor Helsinki hospital hydrogen insulin island jacket "
    "January jungle keyboard Kenya ladder laser lemon library Lisbon mammal market mechanic "
    "melody microscope mountain museum mustard network notebook November ocean olive orchestra "
    "oxygen parliament passport pepper philosophy piano planet plastic Poland pottery protein "
    "quartz radio recipe republic revenue river router salary satellite server shampoo signature "
    "spreadsheet stadium sugar summer surgery syntax tariff theatre ticket tomato tractor tunnel "
    "umbrella vaccine Vienna village vitamin volcano warranty weather whisper zebra"
)
_CHINESE = (
    "北京 上海 广州 杭州 电脑 手机 合同 会议 发票 医院 银行 学校 机场 火车 地铁 咖啡 牛奶 面包 "
    "苹果汁 钢琴 小说 电影 天气 春天 冬天 河流 大海 森林 工厂 仓库 预算 利润 客户 律师 护士 "
    "工程师 数据库 服务器 算法 疫苗 蛋白质 胰岛素 护照 签证 足球 篮球 音乐会 博物馆 图书馆 茶叶"
)
WORDS: Mapping[Language, tuple[str, ...]] = {
    "en": tuple(_ENGLISH.split()),
    "zh": tuple(_CHINESE.split()),
}

_PARTS = (
    "ba bel cor dan do fen gar hi jun ka lam lo mer mi nor o pla qui ra ros sha su tan to ul ver "
    "vi wen xi yor za"
)
_SYLLABLES = tuple(_PARTS.split())


def other_words(
    names: Sequence[str], language: Language, rng: np.random.Generator
) -> tuple[str, ...]:
    """A list of other words in random order, half of the time with the names that are said.

    No word of it sounds like one of those names.
    """
    taken = {spelling for name in names for spelling in alike(name, language)}
    found = list(dict.fromkeys(names)) if rng.random() < 0.5 else []
    low, high = SIZE
    size = low + int(rng.random() * (high - low + 1))
    while len(found) < size:
        word = _word(language, rng)
        if word not in found and word not in taken:
            found.append(word)
    return tuple(found[i] for i in rng.permutation(len(found)))


def _word(language: Language, rng: np.random.Generator) -> str:
    """Mostly one of the language; else a name, a word of the other one, or one that is made up."""
    kind = rng.random()
    if kind < 0.6:
        return pick(rng, WORDS[language])
    if kind < 0.75:
        return pick(rng, NAMES[language])
    if kind < 0.85:
        return pick(rng, WORDS["en" if language == "zh" else "zh"])
    word = "".join(pick(rng, _SYLLABLES) for _ in range(2 + int(rng.random() * 2)))
    return word.title() if rng.random() < 0.5 else word
