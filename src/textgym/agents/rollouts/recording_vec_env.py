"""The vector environment that an agent is trained on, which tells the recorder of every episode."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    VecEnv,
    VecEnvWrapper,
    VecMonitor,
    VecNormalize,
    is_vecenv_wrapped,
)

from textgym.agents.rollouts.split_rewards import with_split
from textgym.agents.rollouts.text_monitor import TextMonitor
from textgym.agents.runs.recording import Recorder


class RecordingVecEnv(TextMonitor):
    """Passes everything through, and finished episodes to a `Recorder`.

    It is a `TextMonitor`, as what `make_vec` gives, so that SB3's `EvalCallback` sees training and
    evaluation environments of one type; it monitors only what is not monitored yet.
    """

    recorder: Recorder | None = None

    def __init__(self, venv: VecEnv) -> None:
        self._is_stepping = self.is_beneath = False
        self.is_monitored = _is_monitored(venv)
        if self.is_monitored:
            VecEnvWrapper.__init__(self, venv)  # VecMonitor's own would warn
            self.results_writer = None
        else:
            super().__init__(venv)

    @classmethod
    def around(cls, env: VecEnv) -> tuple["RecordingVecEnv", VecEnv]:
        """What hears `env`, and the environment for the agent: the same, a layer around it.

        Where `VecNormalize` is, SB3's `EvalCallback` wants it as deep as in its own environment, so
        that no layer is added.
        """
        monitor = _monitor_beneath_normalize(env)
        recording = cls(env if monitor is None else monitor)
        if monitor is None:
            return recording, recording
        recording.hear_beneath()
        return recording, env

    def hear_beneath(self) -> None:
        """Pass on also the episodes of somebody who steps the wrapped environment itself."""
        self.is_beneath = True
        step_wait = self.venv.step_wait

        def heard() -> Any:
            if self.recorder is not None:
                self.recorder.step_begins()
            observations, rewards, dones, infos = step_wait()
            if not self._is_stepping:
                rewards = with_split(rewards, dones, infos)
                self._pass_on(dones, infos)
            return observations, rewards, dones, infos

        self.venv.step_wait = heard  # type: ignore[method-assign]

    def reset(self) -> Any:
        """As the wrapped environment's."""
        return self.venv.reset() if self.is_monitored else super().reset()

    def step_async(self, actions: np.ndarray) -> None:
        """As the wrapped environment's; the first of a rollout starts the recorder's clock."""
        if self.recorder is not None:
            self.recorder.step_begins()
        self.venv.step_async(actions)

    def step_wait(self) -> Any:
        """As the wrapped environment's."""
        self._is_stepping = True
        try:
            step_wait = self.venv.step_wait if self.is_monitored else super().step_wait
            observations, rewards, dones, infos = step_wait()
        finally:
            self._is_stepping = False
        rewards = with_split(rewards, dones, infos)
        self._pass_on(dones, infos)
        return observations, rewards, dones, infos

    def _pass_on(self, dones: np.ndarray, infos: Sequence[dict[str, Any]]) -> None:
        if self.recorder is not None:
            for env in np.flatnonzero(dones).tolist():
                self.recorder.episode_done(infos[env])


def follow_env(recorder: Recorder) -> None:
    """Called where a rollout begins: hears the agent's environment, after a `set_env` too."""
    assert recorder.agent is not None
    env, heard_before = recorder.agent.env, recorder.env
    if env is None or env is heard_before or heard_before in layers(env):
        return
    if heard_before is not None and heard_before.is_beneath and heard_before.venv in layers(env):
        return
    monitor = _monitor_beneath_normalize(env)
    # SB3 holds `env` itself while this rollout is played, so a layer goes in beneath it.
    if monitor is not None:
        heard = RecordingVecEnv(monitor)
        heard.hear_beneath()
    elif isinstance(env, VecEnvWrapper):
        heard = env.venv = RecordingVecEnv(env.venv)
    else:
        heard = recorder.agent.env = RecordingVecEnv(env)
        heard.hear_beneath()
    recorder.listen_to(heard)


def _is_monitored(env: VecEnv) -> bool:
    """Whether the infos of `env` hold the returns of the episodes already."""
    return is_vecenv_wrapped(env, VecMonitor) or all(env.env_is_wrapped(Monitor))


def _monitor_beneath_normalize(env: VecEnv) -> VecMonitor | None:
    """The monitor of an environment with `VecNormalize`, where no other wrapper is around it."""
    found = layers(env)
    place = next((i for i, layer in enumerate(found) if isinstance(layer, VecMonitor)), None)
    if place is None or not any(isinstance(layer, VecNormalize) for layer in found):
        return None
    is_known = all(isinstance(layer, VecNormalize) for layer in found[:place])
    return found[place] if is_known else None  # type: ignore[return-value]


def layers(env: VecEnv) -> list[VecEnv]:
    """An environment and those that it wraps, from the outside in."""
    found = [env]
    while isinstance(env, VecEnvWrapper):
        env = env.venv
        found.append(env)
    return found
