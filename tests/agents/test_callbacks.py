"""Our callbacks in Stable-Baselines3's loop."""

from stable_baselines3 import PPO
from textgym_agents import text_agent

from textgym.agents.runs.callbacks import StopAfterSeconds


def test_no_time_at_all_still_leaves_the_rollouts_that_were_asked_for():
    for rollouts in (0, 1, 2):
        agent = text_agent(PPO)
        stop = StopAfterSeconds(0.0, after_rollouts=rollouts)
        agent.learn(10_000, callback=stop, reset_num_timesteps=True)
        whole = agent.n_steps * agent.n_envs
        assert agent.num_timesteps == rollouts * whole + agent.n_envs  # the step that it ends at
