"""Memory of a rollout: what exceeds this machine's is refused before anything is played."""

from collections.abc import Mapping
from typing import Any

from stable_baselines3.common.vec_env import VecEnv

from textgym.checks import check_memory
from textgym.policies.language_model.language_model import LanguageModel

# Bytes of a step in SB3's rollout buffer and ours, and of a token in the replay buffer.
STEP_BYTES, REPLAY_BYTES, EPISODE_BYTES = 44, 24, 500


def check_rollout_memory(
    settings: Mapping[str, Any], env: VecEnv, lm: LanguageModel, *, is_off_policy: bool
) -> None:
    """Raises where rows, rollout or replay buffer exceed this machine's memory.

    :param settings: the algorithm's keywords, defaults filled in.
    :param lm: the policy's.
    :raises InputError: naming the keyword, its value and the memory that it would take.
    """
    n_envs, width = env.num_envs, env.observation_space.shape[0]  # type: ignore[index]
    check_memory(
        n_envs * width * lm.cached_per_token * 4,  # float32
        f"the key-value cache of n_envs={n_envs} rows of {width} tokens",
        "take fewer rows, or shorter ones",
    )
    for name in ("n_steps", "n_groups", "buffer_size"):
        size = settings.get(name)
        if size is None or (name == "n_steps" and is_off_policy):
            continue
        taken = {
            "n_steps": STEP_BYTES * n_envs,
            "n_groups": (8 * width + EPISODE_BYTES) * settings.get("num_generations", 1),
            "buffer_size": REPLAY_BYTES,
        }
        what = f"{name}={size}" + (f" with n_envs={n_envs}" if name == "n_steps" else "")
        check_memory(size * taken[name], what, "take less")
