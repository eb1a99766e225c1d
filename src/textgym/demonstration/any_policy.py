"""`textgym demo --policy`: the demo with a language model that already knows its language.

Fine-tuned by an adapter, trained by GRPO through another one, and held to the same judges. For
SmolLM2 fine-tuning and reward model come along (`shipped.py`), so that only RL takes its time; any
other causal model is fine-tuned here, and paid by the n-grams of the crowd's taste.
"""

import shlex
from dataclasses import dataclass
from typing import Any, Self

from textgym.demonstration.reviews import ReviewDemo, review_pairs
from textgym.demonstration.reward import Crowd, crowd_alone, fit_on_frozen
from textgym.demonstration.settings import (
    HELD,
    PASS_TOKENS,
    PolicySettings,
    seconds_of_a_pass,
)
from textgym.demonstration.shipped import Shipped, shipped_for
from textgym.policies.language_model.adapters import LoRA, add_adapter
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.pretraining.loop import TrainingReport, train_language_model

RATED_TOKENS = 260_000  # of all rated reviews, about: what a head is fitted on and tried on
CHECKPOINT_SECONDS = 600.0  # one is large: the model with the adapter, and without


@dataclass
class PolicyDemo(ReviewDemo):
    """The demo with a language model of the user's choice."""

    settings: PolicySettings
    base: LanguageModel | None = None
    shipped: Shipped | None = None
    name: str = ""

    def beginning_with(self, base: LanguageModel, name: str) -> Self:
        """Itself, with the model to begin with, and what comes along for that.

        :param name: as the user gave it.
        :raises InputError: if what comes along for this name is of other weights.
        """
        self.base, self.name = base, name
        self.shipped = None if self.from_scratch else shipped_for(base, name)
        return self

    def start_and_reward(self) -> dict[str, Any]:
        """See `ReviewDemo`."""
        try:
            return super().start_and_reward()
        finally:
            self.base = None

    def start(self) -> LanguageModel:
        """See `ReviewDemo`."""
        place, say = self.directory / "start", self.console.print
        if (place / "config.json").is_file():
            say("[bold]1, 2. The fine-tuned language model[/bold] is there already")
            return CausalLM.from_pretrained(place)
        assert self.base is not None
        size = sum(weight.numel() for weight in self.base.parameters())
        say(f"[bold]1. The language model[/bold] {self.name}, {size / 1e6:,.0f} million weights")
        self._say_how_long(self.base)
        if self.shipped is None:
            say("[bold]2. Fine-tuning[/bold] on first words → rest of a movie review")
            lm, report = fine_tuned(
                self.base, self.settings, seed=self.seed, progress_bar=self.progress_bar
            )
            say(f"   held-out perplexity {report.perplexity:.1f} per completion token")
            tuned = lm.merged()
        else:
            say("[bold]2. Fine-tuned[/bold] on movie reviews, by an adapter that comes along")
            tuned = self.shipped.fine_tuned(self.base)
        tuned.save_pretrained(place)
        return tuned

    @property
    def flag(self) -> str:
        """See `Demo`."""
        return f" --policy {shlex.quote(self.name)}"

    def _say_how_long(self, base: LanguageModel) -> None:
        """The time that it will take here; a shorter form where that is long."""
        step, has_start = seconds_of_a_pass(base), self.shipped is not None
        needed, quick = (
            settings.estimate(
                step,
                has_start=has_start,
                reads=settings.share * RATED_TOKENS * self.from_scratch,
            )
            for settings in (self.settings, PolicySettings.quick())
        )
        self.say_how_long(step, needed, quick, f"a pass over {PASS_TOKENS} tokens")

    def crowd(self, start: LanguageModel) -> Crowd:
        """See `ReviewDemo`."""
        assert self.base is not None
        if self.shipped is not None:
            return self.shipped.crowd(self.base)
        if self.from_scratch:
            return fit_on_frozen(
                self.base,
                share=self.settings.share,
                seed=self.seed,
                progress_bar=self.progress_bar,
            )
        return crowd_alone(share=self.settings.share, seed=self.seed)

    def say_what_trains(self) -> None:
        """See `ReviewDemo`."""
        betas = " and ".join(str(beta) for beta in self.betas)
        self.console.print(
            f"[bold]4. GRPO[/bold] through an adapter of rank {self.settings.lora_rank}, with β = "
            f"{betas}: `textgym compare`",
            highlight=False,
        )

    @property
    def reward_name(self) -> str:
        """See `ReviewDemo`."""
        return f"{super().reward_name},words={self.settings.fewest_words}"

    def training(self) -> dict[str, Any]:
        """See `ReviewDemo`."""
        settings = self.settings
        return {
            "agent": [f"grpo,kl_coef={beta}" for beta in self.betas],
            "env_kwargs": {
                "max_new_tokens": settings.max_new_tokens,
                "unfinished_score": settings.unfinished_score,
            },
            "learning_rate": settings.learning_rate,
            "final_learning_rate": settings.learning_rate / 10,
            "lora_rank": settings.lora_rank,
            "num_generations": settings.num_generations,
            "n_groups": settings.n_groups,
            "batch_size": settings.batch_size,
            "n_epochs": 1,
            "checkpoint_seconds": CHECKPOINT_SECONDS,
        }


def fine_tuned(
    base: LanguageModel, settings: PolicySettings, *, seed: int, progress_bar: bool
) -> tuple[LanguageModel, TrainingReport]:
    """A copy of a model with an adapter that has learned to go on with reviews.

    :raises InputError: without the extra `lora`.
    """
    lm = base.trainable_copy()
    documents, held = review_pairs(lm, settings.share)
    add_adapter(lm, LoRA(settings.lora_rank, 2.0 * settings.lora_rank), seed=seed)
    report = train_language_model(
        lm,
        documents,
        heldout=held[:HELD],
        steps=settings.sft_steps,
        batch_size=settings.sft_rows,
        optimizer="adamw",
        learning_rate=settings.sft_learning_rate,
        evaluate_every=max(1, settings.sft_steps // 3),
        seed=seed,
        progress_bar=progress_bar,
    )
    return lm, report
