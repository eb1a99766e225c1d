"""The demo with the start model that comes along: fine-tuned, then trained by PPO."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from textgym.demonstration.reviews import ReviewDemo, part_of, review_pairs
from textgym.demonstration.reward import Crowd, fit_crowd
from textgym.demonstration.settings import MAX_NEW_TOKENS, Settings, seconds_of_a_step
from textgym.envs.tasks import movie_reviews
from textgym.paths import START
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.pretraining.documents import text_documents
from textgym.policies.pretraining.loop import train_language_model
from textgym.tokenizer import Tokenizer


@dataclass
class StartModelDemo(ReviewDemo):
    """The demo of `make demo`."""

    settings: Settings

    def learn_from(
        self,
        person: Callable[[str], None] | None,
        config: Mapping[str, Any],
        port: int,
        browser: bool,
    ) -> dict[str, Any]:
        """The start model, then PPO on a person's answers; returns the figures."""
        from textgym.demonstration.human import Answers, with_person

        self.timed("start", self.start)
        return with_person(
            self.directory,
            self.settings,
            Answers(config["answers"], config["held_out"]),
            seed=self.seed,
            port=port,
            browser=browser,
            split=config["split"],
            progress_bar=self.progress_bar,
            console=self.console,
            person=person,
        )

    def start(self) -> CausalLM:
        """A language model of movie reviews, fine-tuned to continue their first words."""
        place, say = self.directory / "start", self.console.print
        if (place / "config.json").is_file():
            say("[bold]1, 2. The fine-tuned start model[/bold] is there already")
            lm = CausalLM.from_pretrained(place)
            self._say_how_long(lm)
            return lm
        if self.from_scratch:
            lm = self._pretrain()
        else:
            say("[bold]1. The start model[/bold] that comes along (trained on plain English)")
            lm = CausalLM.from_pretrained(START)
            self._say_how_long(lm)
        say("[bold]2. Fine-tuning[/bold] on first words → rest of a movie review")
        documents, held = review_pairs(lm, self.settings.share)
        result = train_language_model(
            lm,
            documents,
            heldout=held,
            steps=self.settings.sft_steps,
            batch_size=32,
            optimizer="adamw",
            learning_rate=1e-4,
            evaluate_every=max(1, self.settings.sft_steps // 2),
            seed=self.seed,
            progress_bar=self.progress_bar,
        )
        say(f"   held-out perplexity {result.perplexity:.1f} per completion token")
        lm.save_pretrained(place)
        return lm

    def _pretrain(self) -> CausalLM:
        """A tokenizer and a model from raw text."""
        texts = list(movie_reviews.corpus_for_pretraining())
        self.console.print(f"[bold]1. Tokenizer and pretraining[/bold] on {len(texts):,} reviews")
        lm = CausalLM.new(Tokenizer.train_bpe(texts, vocab_size=2048), seed=self.seed)
        self._say_how_long(lm)
        held = part_of(movie_reviews.review_texts("validation"), self.settings.share)
        result = train_language_model(
            lm,
            list(text_documents(texts, lm.tokenizer, context=256)),
            heldout=list(text_documents(held, lm.tokenizer, context=256)),
            steps=self.settings.pretrain_steps,
            evaluate_every=300,
            seed=self.seed,
            progress_bar=self.progress_bar,
        )
        self.console.print(
            f"   {result.steps:,} steps, {result.tokens:,} tokens, held-out perplexity "
            f"{result.perplexity:.1f} per token"
        )
        return lm

    def _say_how_long(self, lm: CausalLM) -> None:
        """The time that it will take here; a shorter form where that is long."""
        step = seconds_of_a_step(lm)
        needed = self.settings.estimate(step, from_scratch=self.from_scratch)
        quick = Settings.quick().estimate(step, from_scratch=self.from_scratch)
        self.say_how_long(step, needed, quick)

    def crowd(self, start: LanguageModel) -> Crowd:
        """See `ReviewDemo`."""
        return fit_crowd(
            start,
            steps=self.settings.reward_steps,
            learning_rate=self.settings.reward_learning_rate,
            share=self.settings.share,
            seed=self.seed,
            progress_bar=self.progress_bar,
        )

    def say_what_trains(self) -> None:
        """See `ReviewDemo`."""
        settings = self.settings
        self.console.print(
            f"[bold]4. PPO[/bold], Stable-Baselines3's own, with β = {settings.kl_coef}, and with "
            f"{settings.small_kl_coef}, which is too small: `textgym compare`",
            highlight=False,
        )

    def training(self) -> dict[str, Any]:
        """See `ReviewDemo`."""
        settings = self.settings
        rate = settings.scratch_learning_rate if self.from_scratch else settings.learning_rate
        return {
            "agent": [f"ppo,kl_coef={beta}" for beta in self.betas],
            "env_kwargs": {"max_new_tokens": MAX_NEW_TOKENS},
            "learning_rate": rate,
            "final_learning_rate": rate / 10,
            "n_steps": MAX_NEW_TOKENS,
            "batch_size": settings.rows * MAX_NEW_TOKENS // 2,
            "value_warmup_rollouts": 3,
        }
