"""Preparing texts: steps over rows, pipelines of them, and the recipe that makes a run again.

The names below are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from textgym.lazy_names import lazy_names

if TYPE_CHECKING:
    from textgym.envs.texts.preparation.augmentation import Augment
    from textgym.envs.texts.preparation.characters import (
        ChineseVariant,
        ControlCharacters,
        Normalize,
        Repair,
        Whitespace,
    )
    from textgym.envs.texts.preparation.duplicates import Duplicates, NearDuplicates
    from textgym.envs.texts.preparation.filters import Language, Length
    from textgym.envs.texts.preparation.markup import Markup
    from textgym.envs.texts.preparation.pipeline import (
        Cleaner,
        PreparationReport,
        TextPipeline,
        default_rules,
    )
    from textgym.envs.texts.preparation.quality import Quality
    from textgym.envs.texts.preparation.rows import Row, StepCount
    from textgym.envs.texts.preparation.split import Split
    from textgym.envs.texts.preparation.step import Rule, Step, TextStep, rule
    from textgym.envs.texts.preparation.words import Segment, Segmenter, StopWords

__all__ = [
    "Augment",
    "ChineseVariant",
    "Cleaner",
    "ControlCharacters",
    "Duplicates",
    "Language",
    "Length",
    "Markup",
    "NearDuplicates",
    "Normalize",
    "PreparationReport",
    "Quality",
    "Repair",
    "Row",
    "Rule",
    "Segment",
    "Segmenter",
    "Split",
    "Step",
    "StepCount",
    "StopWords",
    "TextPipeline",
    "TextStep",
    "Whitespace",
    "default_rules",
    "rule",
]

_MODULES = {
    "Augment": "augmentation",
    "ChineseVariant": "characters",
    "Cleaner": "pipeline",
    "ControlCharacters": "characters",
    "Duplicates": "duplicates",
    "Language": "filters",
    "Length": "filters",
    "Markup": "markup",
    "NearDuplicates": "duplicates",
    "Normalize": "characters",
    "PreparationReport": "pipeline",
    "Quality": "quality",
    "Repair": "characters",
    "Row": "rows",
    "Rule": "step",
    "Segment": "words",
    "Segmenter": "words",
    "Split": "split",
    "Step": "step",
    "StepCount": "rows",
    "StopWords": "words",
    "TextPipeline": "pipeline",
    "TextStep": "step",
    "Whitespace": "characters",
    "default_rules": "pipeline",
    "rule": "step",
}


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
