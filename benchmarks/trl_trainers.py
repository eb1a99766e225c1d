"""TRL's trainers on the benchmark's world, for `grpo_iteration.py`."""

import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from token_world import COMPLETION, ENVS, PROMPT, Shape, length_of_text, make_model

TRAINERS = {"grpo": "GRPO", "rloo": "RLOO"}


def run_trl(
    name: str,
    shape: Shape,
    epochs: int,
    generations: int,
    repeats: int,
    between: Callable[[], None],
    clock: Callable[[], float] = time.perf_counter,
    *,
    device: str = "cpu",
    half: bool = False,
    rows: int = ENVS,
    completion: int = COMPLETION,
    minibatches: int = 1,
) -> list[float]:
    """Seconds of TRL's iterations; `between` runs our variants after each of them.

    :param name: of `TRAINERS`.
    :param half: in bfloat16 by autocast.
    """
    import datasets
    import trl
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback

    generator = np.random.default_rng(0)
    words = generator.integers(shape.vocabulary - 3, size=(256, PROMPT))
    prompts = [" ".join(f"w{i}" for i in row) for row in words]
    seconds: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        start = 0.0

        def on_train_begin(self, *arguments: Any, **keywords: Any) -> None:
            self.start = clock()

        def on_step_end(self, args: Any, state: Any, control: Any, **keywords: Any) -> None:
            if state.global_step % (epochs * minibatches):
                return
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(clock() - self.start)
            between()
            self.start = clock()

    with tempfile.TemporaryDirectory() as directory:
        make_model(shape).save_pretrained(f"{directory}/model")
        model = AutoModelForCausalLM.from_pretrained(f"{directory}/model", dtype=torch.float32)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=f"{directory}/model/tokenizer.json",
            pad_token="<pad>",
            eos_token="<end>",
            padding_side="left",
        )
        trainer = getattr(trl, f"{TRAINERS[name]}Trainer")(
            model,
            reward_funcs=lambda prompts, completions, **columns: length_of_text(
                prompts, completions
            ),
            args=getattr(trl, f"{TRAINERS[name]}Config")(
                output_dir=f"{directory}/out",
                use_cpu=device == "cpu",
                bf16=half,
                per_device_train_batch_size=rows // minibatches,
                steps_per_generation=minibatches,
                num_generations=generations,
                max_completion_length=completion,
                generation_kwargs={"min_new_tokens": completion},
                num_iterations=epochs,
                max_steps=epochs * minibatches * (repeats + 1),
                beta=0.0,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                learning_rate=3e-4,
                optim="adamw_torch",
                gradient_checkpointing=False,
                save_strategy="no",
                logging_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
            train_dataset=datasets.Dataset.from_dict({"prompt": prompts}),
            processing_class=tokenizer,
            callbacks=[Clock()],
        )
        trainer.train()
    return seconds
