"""`textgym demo`: the whole road on real text, from a language model to a policy and its judge.

Review snippets → (tokenizer, pretraining) → fine-tuning → a reward model from people's ratings →
PPO with a KL term → an independent judge on held-out prompts. A second, short run with too small a
KL coefficient shows what over-optimisation looks like. docs/demo.md tells the story.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from textgym.agents.building import build_agent
from textgym.agents.callbacks import StopAfterSeconds
from textgym.agents.evaluation import EvaluationReport
from textgym.agents.judges import critic, other_domain_raters
from textgym.agents.pictures import learning_curve, over_optimisation, read_metrics, save_pictures
from textgym.agents.reward_fitting import fitting_bar
from textgym.agents.run_directory import open_run
from textgym.checks import check_numbers
from textgym.demo_report import figures_table, print_next_steps, texts_table, write_texts
from textgym.envs import movie_reviews
from textgym.making import make_vec
from textgym.paths import START
from textgym.policies.causal_lm import CausalLM
from textgym.policies.documents import pair_documents, text_documents
from textgym.policies.pretraining import train_language_model
from textgym.registry import agents as agent_registry
from textgym.reward_models.bradley_terry import BradleyTerryRewardModel
from textgym.reward_models.composition import ShortnessPenalty, WeightedSum
from textgym.reward_models.fitting import FitReport, fit_bradley_terry
from textgym.reward_models.metrics import word_vocabulary
from textgym.reward_models.wrappers import Squash
from textgym.rewards import Reward
from textgym.storage import write_json_atomically
from textgym.tokenizer import Tokenizer
from textgym.verbs import evaluate

ENVIRONMENT = "textgym/MovieReview-v0"
JUDGE_TAG = "reward_components/critic"
MAX_NEW_TOKENS = 40


@dataclass(frozen=True)
class Settings:
    """How much of everything; the defaults fit four minutes on two cores.

    :param pretrain_seconds: only from scratch.
    :param timesteps: completion tokens of the main run; `collapse_timesteps` of the teaching run.
    :param rl_seconds: the main run stops here at the latest, whatever the machine.
    :param reward_learning_rate: Muon's, of the reward model's matrices.
    :param learning_rate: of the main run, falling to a tenth; `scratch_learning_rate` from scratch,
        where the weights are larger and a step of one size is a smaller one.
    """

    pretrain_seconds: float = 75.0
    sft_steps: int = 40
    reward_seconds: float = 45.0
    reward_learning_rate: float = 0.005
    timesteps: int = 56_320
    rl_seconds: float = 150.0
    collapse_timesteps: int = 15_360
    collapse_seconds: float = 40.0
    learning_rate: float = 1.5e-4
    scratch_learning_rate: float = 3e-4
    kl_coef: float = 0.25
    small_kl_coef: float = 0.03
    temperature: float = 0.8
    prompts: int = 500

    @classmethod
    def quick(cls) -> "Settings":
        """A few seconds of everything: for tests of the road, not of the result."""
        return cls(
            pretrain_seconds=4.0,
            sft_steps=4,
            reward_seconds=3.0,
            timesteps=3_000,
            rl_seconds=20.0,
            collapse_timesteps=2_000,
            collapse_seconds=10.0,
            prompts=32,
        )


def run_demo(
    *,
    out: str | Path = "runs/demo",
    from_scratch: bool = False,
    seed: int = 0,
    quick: bool = False,
    settings: Settings | None = None,
    split: str = "test",
    progress_bar: bool = True,
    console: Console | None = None,
) -> dict[str, Any]:
    """Run the demo; everything it makes is in `out` (the next free name if that is taken).

    :param out: run directory.
    :param from_scratch: begin with raw text instead of the start model that comes along.
    :param seed: of everything that is drawn.
    :param quick: a few seconds of everything: shows the road, not the result.
    :param progress_bar: show progress bars.
    :param split: prompts to report on; `"validation"` for choosing settings.
    :return: the figures of `report.json`.
    :raises StorageError: if `out` cannot be written.
    """
    check_numbers({"seed": seed})
    settings = settings or (Settings.quick() if quick else Settings())
    console = console or Console()
    began = time.monotonic()
    config = {
        "verb": "demo",
        "from_scratch": from_scratch,
        "seed": seed,
        "split": split,
        **vars(settings),
    }
    with open_run(out, config, free_name=True) as run:
        directory = run.directory
        start = _start_model(directory, settings, from_scratch, seed, progress_bar, console)
        reward_model, fit = _reward_model(directory, start, settings, seed, progress_bar, console)
        prompts = _prompts(split, settings.prompts)
        rate = settings.scratch_learning_rate if from_scratch else settings.learning_rate
        chosen = _train(
            directory / "ppo",
            start,
            reward_model,
            settings,
            seed,
            progress_bar,
            console,
            learning_rate=rate,
        )
        _train(
            directory / "ppo_small_kl",
            start,
            reward_model,
            settings,
            seed,
            progress_bar,
            console,
            learning_rate=1e-3,
            is_lesson=True,
        )
        console.print("\n[bold]The judge reads held-out prompts[/bold], before and after")
        before = _evaluate(start, reward_model, prompts, start, settings)
        after = _evaluate(chosen, reward_model, prompts, start, settings)
        pictures = _pictures(directory, settings)
        seconds = time.monotonic() - began
        figures = {
            "seed": seed,
            "from_scratch": from_scratch,
            "split": split,
            "seconds": round(seconds, 1),
            "reward_model": dict(vars(fit)),
            "before": before.figures(),
            "after": after.figures(),
        }
        write_json_atomically(directory / "report.json", figures)
        write_texts(directory / "texts.jsonl", before, after)
        console.print(figures_table(before, after))
        console.print(texts_table(before, after))
        print_next_steps(console, directory, pictures, seconds)
    return figures


def _start_model(
    directory: Path,
    settings: Settings,
    from_scratch: bool,
    seed: int,
    progress_bar: bool,
    console: Console,
) -> CausalLM:
    """A language model of movie reviews, fine-tuned to continue their first words."""
    if from_scratch:
        texts = list(movie_reviews.corpus_for_pretraining())
        console.print(f"[bold]1. Tokenizer and pretraining[/bold] on {len(texts):,} reviews")
        lm = CausalLM.new(Tokenizer.train_bpe(texts, vocab_size=2048), seed=seed)
        held = movie_reviews.review_texts("validation")
        result = train_language_model(
            lm,
            list(text_documents(texts, lm.tokenizer, context=256)),
            heldout=list(text_documents(held, lm.tokenizer, context=256)),
            seconds=settings.pretrain_seconds,
            evaluate_every=300,
            seed=seed,
            progress_bar=progress_bar,
        )
        console.print(
            f"   {result.steps:,} steps, {result.tokens:,} tokens, held-out perplexity "
            f"{result.perplexity:.1f} per token"
        )
    else:
        console.print("[bold]1. The start model[/bold] that comes along (trained on plain English)")
        lm = CausalLM.from_pretrained(START)
    console.print("[bold]2. Fine-tuning[/bold] on first words → rest of a movie review")
    texts = movie_reviews.review_texts("reward_model") + movie_reviews.review_texts("judge")
    pairs = [_pair(text) for text in texts]
    held_pairs = [_pair(text) for text in movie_reviews.review_texts("validation")]
    context = lm.config.max_position_embeddings
    result = train_language_model(
        lm,
        list(pair_documents(pairs, lm.tokenizer, context=context)),
        heldout=list(pair_documents(held_pairs, lm.tokenizer, context=context)),
        steps=settings.sft_steps,
        batch_size=32,
        optimizer="adamw",
        learning_rate=1e-4,
        evaluate_every=max(1, settings.sft_steps // 2),
        seed=seed,
        progress_bar=progress_bar,
    )
    console.print(f"   held-out perplexity {result.perplexity:.1f} per completion token")
    lm.save_pretrained(directory / "start")
    return lm


def _pair(text: str) -> tuple[str, str]:
    """A review cut after its first three words; the space goes with the completion."""
    words = text.split(" ")
    prompt = " ".join(words[:3])
    return prompt, text[len(prompt) :]


def _reward_model(
    directory: Path,
    start: CausalLM,
    settings: Settings,
    seed: int,
    progress_bar: bool,
    console: Console,
) -> tuple[BradleyTerryRewardModel, FitReport]:
    """A Bradley-Terry model of what people preferred, on a copy of the start model's trunk."""
    rated = movie_reviews.load_movie_reviews("reward_model")
    others = [r for s in ("validation", "test") for r in movie_reviews.load_movie_reviews(s)]
    console.print(f"[bold]3. Reward model[/bold] from people's ratings of {len(rated):,} reviews")
    model = BradleyTerryRewardModel(copy.deepcopy(start), seed=seed, name="crowd")
    with fitting_bar(progress_bar, "fitting") as show:
        fit = fit_bradley_terry(
            model,
            rated,
            others,
            seed=seed,
            seconds=settings.reward_seconds,
            muon_learning_rate=settings.reward_learning_rate,
            evaluations=0,  # nothing is chosen on the held-out ratings: they only report
            standardise_on=movie_reviews.review_texts("judge"),
            progress=show,
        )
    console.print(
        f"   pair accuracy on held-out movies {fit.pair_accuracy:.3f} "
        f"(n-gram baseline {fit.baseline:.3f}, two people {fit.rater_vs_rater:.3f})"
    )
    model.save_pretrained(directory / "reward_model")
    return model, fit


def training_reward(reward_model: Reward) -> WeightedSum:
    """What PPO maximises: the crowd's taste, squashed, with a floor under the length.

    The judge rides along as a shadow: scored and logged, weight 0.
    """
    return WeightedSum(
        {
            "crowd": (Squash(reward_model, 2.0), 1.0),
            "shortness": (ShortnessPenalty(words=11, divisor=7), 1.0),
            "critic": (critic(), 0.0),
        },
        name="crowd with a floor",
    )


def _train(
    directory: Path,
    start: CausalLM,
    reward_model: BradleyTerryRewardModel,
    settings: Settings,
    seed: int,
    progress_bar: bool,
    console: Console,
    *,
    learning_rate: float,
    is_lesson: bool = False,
) -> CausalLM:
    """One PPO run; the lesson has a KL coefficient that is too small, and a fixed rate."""
    kl_coef = settings.small_kl_coef if is_lesson else settings.kl_coef
    reward: Reward = training_reward(reward_model)
    if is_lesson:
        console.print(f"[bold]5. A lesson[/bold]: the same with too small a β ({kl_coef})")
        reward = WeightedSum({"crowd": (reward_model, 1.0), "critic": (critic(), 0.0)})
    else:
        console.print(f"[bold]4. PPO[/bold], Stable-Baselines3's own, β = {kl_coef}")
    n_envs, n_steps = 32, MAX_NEW_TOKENS
    env = make_vec(
        ENVIRONMENT,
        n_envs,
        seed=seed,
        tokenizer=start.tokenizer,
        reward=reward,
        max_new_tokens=MAX_NEW_TOKENS,
    )
    algorithm: Any = agent_registry.resolve("ppo")
    agent = build_agent(
        "ppo",
        algorithm,
        env,
        start,
        kl_coef=kl_coef,
        temperature=settings.temperature,
        learning_rate=learning_rate,
        final_learning_rate=None if is_lesson else learning_rate / 10,
        n_steps=n_steps,
        batch_size=n_envs * n_steps // 2,
        value_warmup_rollouts=1 if is_lesson else 3,
        directory=directory,
        sample_prompts=_prompts("validation", 8),
        seed=seed,
    )
    timesteps = settings.collapse_timesteps if is_lesson else settings.timesteps
    seconds = settings.collapse_seconds if is_lesson else settings.rl_seconds
    # Two rollouts at least: the pictures need something to show, on however slow a machine.
    stop = StopAfterSeconds(seconds, after_rollouts=2)
    agent.learn(timesteps, callback=stop, progress_bar=progress_bar)
    return CausalLM.from_agent(agent)


def _evaluate(
    lm: CausalLM,
    reward_model: BradleyTerryRewardModel,
    prompts: Sequence[str],
    start: CausalLM,
    settings: Settings,
) -> EvaluationReport:
    return evaluate(
        ENVIRONMENT,
        policy=lm,
        reward=training_reward(reward_model),
        gold=[critic(), other_domain_raters()],
        reference=start,
        prompts=prompts,
        temperature=settings.temperature,
        env_kwargs={"max_new_tokens": MAX_NEW_TOKENS},
        vocabulary=_known_words(),
        seed=1,
    )


def _known_words() -> frozenset[str]:
    """Every word of the bundled texts."""
    others = movie_reviews.load_other_domains().values()
    return word_vocabulary(
        [
            *movie_reviews.review_texts(),
            *(snippet.text for snippet in movie_reviews.load_critic_snippets()),
            *(rated.text for items in others for rated in items),
        ]
    )


def _prompts(split: str, count: int) -> list[str]:
    if split == "validation":
        return movie_reviews.validation_prompts(count)
    return movie_reviews.test_prompts(count)


def _pictures(directory: Path, settings: Settings) -> list[Path]:
    chosen = read_metrics(directory / "ppo" / "metrics.jsonl")
    small = read_metrics(directory / "ppo_small_kl" / "metrics.jsonl")
    runs = {f"β = {settings.kl_coef}": chosen, f"β = {settings.small_kl_coef}": small}
    return save_pictures(
        {
            "learning_curve": learning_curve(chosen, judge=JUDGE_TAG),
            "over_optimisation": over_optimisation(runs, judge=JUDGE_TAG),
        },
        directory,
    )
