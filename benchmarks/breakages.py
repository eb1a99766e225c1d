"""Known ways to get reinforcement learning on text wrong, as edits of the source.

Each is a mistake that training survives: figures go up, texts come out, and the result is wrong.
`mutations.py` applies them one by one to a copy and runs the tests that are to notice.
"""

from dataclasses import dataclass

ACTOR = "tests/policies/test_actor_critic.py"
BUFFER = "tests/agents/test_rollout_buffer.py"
EXACT = "tests/agents/test_exact_resume.py"
KL = "tests/agents/test_kl.py"
INTERVALS = "tests/agents/test_intervals.py"
VERDICT = "tests/agents/test_verdict.py"
ORACLE = "tests/learning/test_oracle.py"
DIALOGUES = "tests/agents/test_dialogues.py"
SCORES = "tests/agents/test_rollout_scores.py"
RESUME = "tests/agents/test_exact_resume.py::test_a_stopped_run_goes_on_to_the_last_bit"


@dataclass(frozen=True)
class Breakage:
    """One mistake.

    :param what: the mistake, as the table names it.
    :param file: under src/textgym.
    :param edits: pairs of texts, what stands there and what to put in its place; each is to be
        found exactly once.
    :param tests: as pytest takes them; one of them at least is to turn red.
    :param keyword: pytest's `-k`, to run few of them.
    """

    what: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]
    keyword: str = ""


BREAKAGES = (
    Breakage(
        "ROUGE is counted on the library's own words, which Chinese has none of",
        "reward_models/rules/overlap.py",
        (("library.RougeScorer([kind], tokenizer=_Words())", "library.RougeScorer([kind])"),),
        ("tests/reward_models/test_reference_rewards.py",),
        "in_any_script or chinese",
    ),
    Breakage(
        "a schema's references are fetched",
        "reward_models/rules/json_schema.py",
        (("cls(schema, registry=self._documents)", "cls(schema)"),),
        ("tests/reward_models/test_answers.py",),
        "nothing_is_fetched",
    ),
    Breakage(
        "an empty text is the most fluent one",
        "reward_models/rules/fluency.py",
        (("if n else -self.limit", "if n else 0.0"),),
        ("tests/reward_models/test_fluency.py",),
        "down_to_a_floor",
    ),
    Breakage(
        "the advantage has the wrong sign",
        "agents/rollouts/rollout_buffer.py",
        (("advantages=take(self.advantages),", "advantages=-take(self.advantages),"),),
        (f"{ACTOR}::test_loss_and_gradients_of_an_update_equal_the_naive_ones", ORACLE),
        "loss_and_gradients or ppo-textgym/OneToken-v0",
    ),
    Breakage(
        "log-probabilities stand one step off their tokens",
        "agents/rollouts/rollout_buffer.py",
        (
            (
                "old_log_prob=take(self.log_probs),",
                "old_log_prob=take(np.roll(self.log_probs, 1, axis=0)),",
            ),
        ),
        (f"{BUFFER}::test_a_minibatch_lines_up_with_its_tokens", ACTOR),
        "lines_up or ratio_is_one",
    ),
    Breakage(
        "the policy is evaluated one position too early",
        "agents/rollouts/rollout_buffer.py",
        (
            (
                "self.lengths[s.start : s.end, s.env] - 1 for s in chosen",
                "np.maximum(self.lengths[s.start : s.end, s.env] - 2, 0) for s in chosen",
            ),
        ),
        (f"{BUFFER}::test_segments_by_hand", ACTOR),
        "segments_by_hand or ratio_is_one",
    ),
    Breakage(
        "the reward comes a step late: on what follows the last token (a pad, or the next text)",
        "agents/rollouts/rollout_buffer.py",
        (
            (
                "        self.rewards[step] = reward\n",
                "        self.rewards[(step + 1) % self.buffer_size] = reward\n",
            ),
        ),
        (f"{BUFFER}::test_advantages_and_returns_are_sb3s", ACTOR),
        "are_sb3s or bootstrap_is_the_value",
    ),
    Breakage(
        "padding may be sampled",
        "policies/language_model/generation.py",
        (("excluded_ids = {tokenizer.pad_token_id, *range(", "excluded_ids = {*range("),),
        (ACTOR, "tests/policies/test_sampling.py"),
        "never_played or never_sampled",
    ),
    Breakage(
        "no bootstrap at an outer limit",
        "agents/rollouts/vec_env.py",
        (
            (
                'ending["TimeLimit.truncated"] = is_truncated',
                'ending["TimeLimit.truncated"] = False',
            ),
        ),
        (ACTOR, "tests/agents/test_vec_env.py"),
        "bootstrap_is_the_value or outer_limit",
    ),
    Breakage(
        "the bootstrap reads the next prompt instead of the text that was cut",
        "agents/rollouts/vec_env.py",
        (
            (
                'ending["terminal_observation"] = finals[row]',
                'ending["terminal_observation"] = observations[row]',
            ),
        ),
        ("tests/agents/test_vec_env.py",),
        "single_environments or info_of_an_ending",
    ),
    Breakage(
        "the budget truncates instead of terminating",
        "envs/episode_rows.py",
        (
            ("is_terminated = is_stop | is_spent", "is_terminated = is_stop.copy()"),
            (
                "is_truncated = is_full & ~is_terminated",
                "is_truncated = (is_full | is_spent) & ~is_terminated",
            ),
        ),
        ("tests/envs/test_text_env.py", "tests/agents/test_exact_oracle.py"),
        "budget or by_hand",
    ),
    Breakage(
        "old log-probabilities are computed anew after each update",
        "agents/rollouts/rollout_buffer.py",
        (
            (
                "old_log_prob=take(self.log_probs),",
                'old_log_prob=vars(self.observation_space)["evaluate"]'
                "(packed, take(self.actions))[1].detach(),",
            ),
            (
                "    def reset(self) -> None:\n",
                "    def reset(self) -> None:\n"
                "        import gc\n\n"
                "        for it in gc.get_objects():  # the policy, which a buffer does not know\n"
                '            if type(it).__name__ == "TextActorCriticPolicy":\n'
                "                if it.observation_space is self.observation_space:\n"
                '                    vars(it.observation_space)["evaluate"] = '
                "it.evaluate_actions\n",
            ),
        ),
        (f"{ACTOR}::test_minibatches_and_epochs_end_with_the_naive_weights",),
    ),
    Breakage(
        "the value is that of the wrong position",
        "policies/sb3/actor_critic.py",
        (
            (
                "return self.value_net(hidden.float())  # type",
                "return self.value_net(hidden.float().roll(1, 0))  # type",
            ),
        ),
        (ACTOR,),
        "ratio_is_one or loss_and_gradients",
    ),
    Breakage(
        "the KL term is to the policy as it is now",
        "agents/building/build.py",
        (
            (
                "    recorder.attach(agent, recording)\n",
                "    recorder.attach(agent, recording)\n"
                "    if kl is not None:\n"
                "        kl.model = agent.policy.lm\n",
            ),
        ),
        (ORACLE,),
        "ppo-textgym/OneToken-v0 and not maskable",
    ),
    Breakage(
        "the reference moves with the model that it was made of",
        "agents/rollouts/kl.py",
        (
            (
                'open_policy(reference, label="reference").frozen_reference()',
                'open_policy(reference, label="reference")',
            ),
        ),
        (f"{KL}::test_the_reference_is_a_copy_that_its_owner_cannot_move",),
    ),
    Breakage(
        "the KL term is added to the reward instead of taken off",
        "agents/rollouts/rollout_buffer.py",
        (
            (
                "self.rewards -= kl.coefficient * self.kl_raw",
                "self.rewards += kl.coefficient * self.kl_raw",
            ),
        ),
        (f"{KL}::test_the_reward_is_the_environments_less_the_weighted_term", ORACLE),
        "weighted_term or ppo-textgym/OneToken-v0 and not maskable",
    ),
    Breakage(
        "the reference is read at temperature 1, whatever the policy's",
        "agents/rollouts/kl.py",
        (("packed, actions, self.sampling,", "packed, actions, Sampling(),"),),
        (f"{KL}::test_the_whole_sequence_pass_equals_one_pass_for_each_token",),
    ),
    Breakage(
        "k3 with a wrong sign",
        "agents/rollouts/kl.py",
        (("log_ratio.expm1() - log_ratio", "log_ratio.expm1() + log_ratio"),),
        (KL,),
        "by_hand or unbiased",
    ),
    Breakage(
        "the mean of a group is taken over the wrong axis",
        "agents/algorithms/losses.py",
        (
            (
                "centred: np.ndarray = totals - kept_mean(totals)",
                "centred: np.ndarray = totals - totals.mean(axis=0, keepdims=True)",
            ),
        ),
        ("tests/agents/test_policy_losses.py",),
        "group_advantages or each_group",
    ),
    Breakage(
        "a group's episodes have different prompts",
        "envs/grouped_prompts.py",
        (("if place == 0 or self._prompt is None:", "if True:"),),
        ("tests/envs/test_grouped_prompts.py", "tests/agents/test_group_algorithms.py"),
        "group or whole",
    ),
    Breakage(
        "log-probabilities are not those of the distribution that was sampled",
        "policies/sb3/actor_critic.py",
        (
            (
                "return self.sampling.filter(logits, keep=keep)",
                "return logits if keep is not None else self.sampling.filter(logits)",
            ),
        ),
        (ACTOR,),
        "ratio_is_one or loss_and_gradients",
    ),
    Breakage(
        "the gradient of the entropy has the wrong sign",
        "policies/language_model/sampling.py",
        (
            (
                "scale = scale - surprise",
                "scale = scale + surprise",
            ),
        ),
        ("tests/policies/test_sampling.py",),
        "gradients",
    ),
    Breakage(
        "segments of a minibatch see one another",
        "policies/language_model/attention.py",
        (
            (
                "self.groups = [_SegmentGroup(lengths[part]) for part in "
                "_similar(lengths.tolist())]",
                "self.groups = [_SegmentGroup(lengths.sum()[None])]",
            ),
        ),
        ("tests/policies/test_segment_attention.py", ACTOR),
        "as_if_it_were_alone or ratio_is_one",
    ),
    Breakage(
        "positions go on from segment to segment",
        "policies/language_model/packing.py",
        (
            (
                "return rows, torch.arange(len(rows), device=lengths.device) - starts[rows]",
                "return rows, torch.arange(len(rows), device=lengths.device)",
            ),
        ),
        (ACTOR,),
        "ratio_is_one",
    ),
    Breakage(
        "the cache outlives the update",
        "policies/sb3/text_policy.py",
        (("        if mode or self.training:", "        if False:"),),
        (ACTOR,),
        "fused_optimizer",
    ),
    Breakage(
        "an evaluation draws from the training's generator",
        "policies/sb3/actor_critic.py",
        (('self._generator("predict", log', 'self._generator("rollout", log'),),
        ("tests/policies/test_sb3_training.py",),
        "mid_rollout",
    ),
    Breakage(
        "a refilled row keeps the end of the text before",
        "envs/episode_rows.py",
        (("            tokens[length:] = pad\n", ""),),
        ("tests/envs/test_vector_env.py", "tests/agents/test_vec_env.py"),
        "same_game or info_of_an_ending",
    ),
    Breakage(
        "a constraint holds while playing and not while learning",
        "policies/sb3/actor_critic.py",
        (
            (
                "        if self.masks is not None:\n            is_legal",
                "        if self.masks is not None and keep is None:\n            is_legal",
            ),
        ),
        ("tests/policies/test_token_masks.py",),
        "ratio_is_one or naive_masked",
    ),
    Breakage(
        "a replayed text that stopped is bootstrapped",
        "agents/rollouts/replay_buffer.py",
        (
            (
                "at_end = len(episode.tokens) if episode.is_truncated else 0",
                "at_end = len(episode.tokens)",
            ),
        ),
        ("tests/agents/test_replay_buffer.py",),
        "by_hand or bootstraps or without_a_truncation",
    ),
    Breakage(
        "a turn's pay is lost where the text is scored later",
        "envs/scoring.py",
        (("float(text.paid + output.scores[i])", "float(output.scores[i])"),),
        (DIALOGUES,),
        "pay",
    ),
    Breakage(
        "a constraint goes on over the environment's words",
        "constraints/automaton.py",
        (("i in range(start, len(ids)) if ids[i] in self._stops", "i in range(0)"),),
        (DIALOGUES,),
        "by_hand or starts_anew",
    ),
    Breakage(
        "what a reply drew is drawn again",
        "envs/episode_rows.py",
        (
            (
                "generator.bit_generator.state = reply.answer.generator.bit_generator.state",
                "pass",
            ),
        ),
        ("tests/envs/test_dialogues.py",),
        "generator",
    ),
    Breakage(
        "a reply that failed has changed the state",
        "envs/replies.py",
        (("supplied[name] = copy.deepcopy(value)", "supplied[name] = value"),),
        ("tests/envs/test_dialogues.py",),
        "repeated",
    ),
    Breakage(
        "a score that waited goes to the next row",
        "agents/rollouts/rollout_buffer.py",
        (
            (
                "(slice(int(self._open_from[env]), step + 1), env)",
                "(slice(step + 1), (env + 1) % self.n_envs)",
            ),
        ),
        (SCORES,),
        "last_digit and ppo-plain",
    ),
    Breakage(
        "advantages are computed before the scores are there",
        "agents/rollouts/rollout_buffer.py",
        (
            (
                "            self.scores.settle()\n        sampler_gap",
                "            pass\n        sampler_gap",
            ),
        ),
        (SCORES,),
        "last_digit and ppo-plain",
    ),
    Breakage(
        "a wrapper that reads rewards on their way reads 0",
        "agents/rollouts/rollout_scores.py",
        (
            (
                "        if type(env) not in (TextMonitor, RecordingVecEnv) or env.results_writer "
                "is not None:\n            return None\n",
                "",
            ),
        ),
        (SCORES,),
        "reads_rewards",
    ),
    Breakage(
        "a truncated text that is left out counts in its group's mean",
        "agents/algorithms/critic_free.py",
        (
            (
                "np.where([e.is_truncated for e in self.episodes], np.nan, totals)",
                "np.where([e.is_truncated for e in self.episodes], 0.0, totals)",
            ),
        ),
        ("tests/agents/test_mask_truncated.py",),
        "left_out or by_hand",
    ),
    Breakage(
        "an audit takes a flipped reward for one that ranks as people do",
        "reward_models/auditing/ranking.py",
        (
            (
                "margins = scored.scores[scored.better] - scored.scores[scored.worse]\n    hits",
                "margins = abs(scored.scores[scored.better] - scored.scores[scored.worse])\n"
                "    hits",
            ),
        ),
        ("tests/reward_models/test_auditing.py",),
        "flipped",
    ),
    Breakage(
        "a guard is content where the reward rises, whatever the gold judge says",
        "agents/runs/alarms.py",
        (
            (
                "fall = means_of(before, gold) - means_of(now, gold)",
                "fall = means_of(now, reward) - means_of(before, reward)",
            ),
        ),
        ("tests/agents/test_guards.py",),
        "needs_both",
    ),
    Breakage(
        "the policy's generator is not gone on with",
        "agents/building/training_state.py",
        (
            (
                'load_generators_state(agent.policy, fields.value("policy"))'
                "  # type: ignore[arg-type]",
                'fields.value("policy")',
            ),
        ),
        (EXACT,),
        "last_bit and ppo and not maskable",
    ),
    Breakage(
        "an environment's generators are not gone on with",
        "envs/vector_env.py",
        (("load_generator_state(generator, saved, where)", "pass"),),
        (EXACT,),
        "last_bit and ppo and not maskable",
    ),
    Breakage(
        "open episodes begin anew where a run is gone on with",
        "envs/vector_env.py",
        (
            (
                'load_rows_state(self._episodes, fields.value("rows"), where)',
                "self._episodes.reset([*range(self.num_envs)], generators)",
            ),
        ),
        (EXACT,),
        "last_bit and ppo and not maskable",
    ),
    Breakage(
        "on resuming, minibatches are shuffled anew",
        "agents/rollouts/rollout_buffer.py",
        (('load_generator_state(self.rng, fields.value("rng"), fields.path)', "pass"),),
        (f"{RESUME}[ppo]",),
    ),
    Breakage(
        "on resuming, NumPy's global generator is another",
        "agents/building/training_state.py",
        (('_load_globals(fields.table("globals"))', "pass"),),
        (f"{RESUME}[dqn]",),
    ),
    Breakage(
        "on resuming, open episodes are restarted",
        "agents/building/training_state.py",
        (("        _load_last_rows(agent, fields)\n", ""),),
        (f"{RESUME}[ppo]",),
    ),
    Breakage(
        "on resuming, the tokens of open episodes are forgotten",
        "agents/building/training_state.py",
        (("agent.load_rollout_state(state)", "pass"),),
        (f"{RESUME}[grpo]",),
    ),
    Breakage(
        "on resuming, the replay buffer is empty",
        "agents/building/training_state.py",
        (("buffer.load_state_dict(state, goes_on=goes_on)", "pass"),),
        (f"{RESUME}[dqn]",),
    ),
    Breakage(
        "on resuming, figures that waited for the next rollout's are lost",
        "agents/runs/recording.py",
        (("before.go_on(logger, self.writer)", "pass"),),
        (f"{RESUME}[ppo]",),
    ),
    Breakage(
        "on resuming, steps stand twice in the record",
        "agents/building/learning.py",
        (("cut_record(self.run.directory, recorder.rows_until, step)", "pass"),),
        ("tests/faults/test_killed_runs.py",),
    ),
    Breakage(
        "a gate pays where its condition does not hold",
        "reward_models/gating.py",
        (("asked.scores >= self.threshold", "asked.scores < self.threshold"),),
        ("tests/reward_models/test_gating.py",),
        "by_hand",
    ),
    Breakage(
        "a part of a sum is logged with its weight and paid without",
        "reward_models/composition.py",
        (("            total += weighted\n", "            total += weighted / weight\n"),),
        ("tests/agents/test_sum_is_optimised.py",),
        "without_a_critic",
    ),
    Breakage(
        "workers' answers come back in another order",
        "reward_models/worker_pool.py",
        (
            (
                "return [answers[place] for place in range(len(workers))]",
                "return [answers[place] for place in reversed(range(len(workers)))]",
            ),
        ),
        ("tests/reward_models/test_worker_pool.py",),
        "in_order",
    ),
    Breakage(
        "undecided pairs are written for DPO as if somebody had decided them",
        "reward_models/people/preference_rows.py",
        (("if is_tie and not ties:", "if is_tie and ties:"),),
        ("tests/labelling/test_exchange.py",),
        "trls_preferences",
    ),
    Breakage(
        "a held-out text is drawn with its row's numbers",
        "agents/evaluation/play.py",
        (
            (
                "numbers[np.minimum(number, len(numbers) - 1), places]",
                "numbers[np.arange(len(number)) % len(numbers), places]",
            ),
        ),
        ("tests/agents/test_held_out_evaluations.py",),
        "its_own",
    ),
    Breakage(
        "an evaluation leaves the state of a judge changed",
        "agents/evaluation/held_out_callback.py",
        (("load_state_of(judges[name], state,", "print(judges[name], state,"),),
        ("tests/agents/test_held_out_evaluations.py",),
        "last_bit",
    ),
    Breakage(
        "a torn evaluation stays in the record",
        "agents/evaluation/held_out_callback.py",
        (("cut_rows(path, self.last_step)", "pass"),),
        ("tests/agents/test_held_out_evaluations.py",),
        "stopped_run",
    ),
    Breakage(
        "comparing: an interval counts prompts only, as if every seed did the same",
        "agents/comparison/intervals.py",
        (("return self.seeds + self.prompts", "return self.prompts + self.noise"),),
        (INTERVALS,),
        "crossed_random_effects or seeds_means",
    ),
    Breakage(
        "comparing: three seeds' t quantile has the degrees of freedom of the prompts",
        "agents/comparison/intervals.py",
        (("share / max(n_seeds - 1, 1)", "share / max(n_prompts - 1, 1)"),),
        (INTERVALS,),
        "seeds_means or tukeys",
    ),
    Breakage(
        "comparing: intervals of many pairs hold one by one, and not together",
        "agents/comparison/simultaneous.py",
        (("together = min(float(np.quantile(smallest, level)), level)", "together = level"),),
        (INTERVALS,),
        "tukeys",
    ),
    Breakage(
        "comparing: the interquartile mean cuts the quarter at the top alone",
        "agents/comparison/aggregates.py",
        (("middle = ordered[cut : len(ordered) - cut]", "middle = ordered[: len(ordered) - cut]"),),
        ("tests/agents/test_aggregates.py",),
    ),
    Breakage(
        "comparing: a paired difference takes texts that the other side does not have",
        "agents/comparison/aggregates.py",
        (("known = ~np.isnan(scores) & ~np.isnan(others)", "known = np.ones_like(scores, bool)"),),
        ("tests/agents/test_aggregates.py",),
    ),
    Breakage(
        "comparing: the first cell wins though an interval has 0 in it",
        "agents/comparison/judgements.py",
        (("pair is not None and pair.difference.low > 0", "pair is not None"),),
        (VERDICT,),
        "excludes_0",
    ),
    Breakage(
        "comparing: one judge's winner is the winner, whatever the others say",
        "agents/comparison/headline.py",
        (("and set(winners) == {winners[0]}", ""),),
        (VERDICT,),
        "must_agree",
    ),
    Breakage(
        "comparing: a title of markup acts on the page",
        "agents/comparison/page/write.py",
        (('title=html.escape(overview["title"]),', 'title=overview["title"],'),),
        ("tests/agents/test_page_data.py",),
        "escaped or markup",
    ),
    Breakage(
        "comparing: the page packs the last evaluation's texts with the first one's scores",
        "agents/comparison/page/run_blocks.py",
        (("scores_of(run, j)[list(kept)]", "scores_of(run, j)[[0] * len(kept)]"),),
        ("tests/agents/test_page_data.py",),
        "every_text",
    ),
    Breakage(
        "on resuming, steps stand twice in TensorBoard",
        "agents/runs/recording.py",
        (("mark_start(logger, step)", "pass"),),
        ("tests/faults/test_killed_runs.py",),
    ),
    Breakage(
        "the labelling page answers again while a key is held",
        "labelling/static/keys.js",
        (("if (event.repeat || event.isComposing", "if (event.isComposing"),),
        ("tests/labelling/test_page.py",),
        "double_click",
    ),
    Breakage(
        "an answer leaves the browser before the server has it",
        "labelling/static/outbox.js",
        (
            (
                "const answer = await post(entry.route, entry.body)",
                "this.forget(name); const answer = await post(entry.route, entry.body)",
            ),
        ),
        ("tests/labelling/test_page.py",),
        "outage",
    ),
    Breakage(
        "a text to be judged is obeyed as HTML",
        "labelling/static/text.js",
        (("element.textContent = text", "element.innerHTML = text"),),
        ("tests/labelling/test_page.py",),
        "obeyed_by_nothing",
    ),
    Breakage(
        "a choice is read by its side of the screen, whatever text stood there",
        "reward_models/people/records.py",
        (('(choice == "a") != is_swapped', '(choice == "a")'),),
        ("tests/reward_models/people/test_summary.py",),
        "by_hand",
    ),
    Breakage(
        "a pair goes to one rater more than wanted",
        "reward_models/people/queue.py",
        (("AND :raters > (", "AND :raters + 1 > ("),),
        ("tests/reward_models/people/test_queue.py",),
        "Queue",
    ),
    Breakage(
        "another site may ask the label server",
        "labelling/guard.py",
        (("if origin is not None and urlsplit", "if origin is None and urlsplit"),),
        ("tests/labelling/test_guard.py",),
        "foreign_origin",
    ),
    Breakage(
        "a resumed run fits people's answers of the moment, not those it saw at that step",
        "reward_models/people/human_reward.py",
        (("list(due[-1].answers), is_new", "self._log.counted(), is_new"),),
        ("tests/reward_models/people/test_human_reward.py",),
        "same_name",
    ),
    Breakage(
        "a loop is fitted to the answers that are set aside",
        "reward_models/people/answers.py",
        (("if self.items[event.item].query != HELD_OUT", "if True"),),
        ("tests/reward_models/people/test_human_reward.py",),
        "set_aside",
    ),
    Breakage(
        "a policy follows the KL term and noise while people's answers are only collected",
        "agents/building/only_collecting.py",
        (("if not self.recorder.only_collects:", "if True:"),),
        ("tests/agents/test_only_collecting.py",),
        "moves_until",
    ),
    Breakage(
        "active queries ask what the ensemble is surest of",
        "reward_models/people/queries.py",
        (("np.argsort(-spread", "np.argsort(spread"),),
        ("tests/reward_models/people/test_queries.py",),
        "most_disagreed",
    ),
    Breakage(
        "agreement with new answers is of the model that was fitted to them",
        "reward_models/people/human_reward.py",
        (
            (
                "        figures = self._agreement(sorted(set(ids) - set(self.fitted)))\n"
                "        heads = self.fit(self._log.answered(ids))\n",
                "        new = sorted(set(ids) - set(self.fitted))\n"
                "        heads = self.heads = self.fit(self._log.answered(ids))\n"
                "        figures = self._agreement(new)\n",
            ),
        ),
        ("tests/reward_models/people/test_human_reward.py",),
        "agreement",
    ),
    Breakage(
        "ties are halves of wins in a model that has ties",
        "reward_models/learned/objectives.py",
        (
            (
                "torch.stack([label - tie / 2, tie, 1 - label - tie / 2], dim=1)",
                "torch.stack([label, 0 * tie, 1 - label], dim=1)",
            ),
        ),
        ("tests/reward_models/test_objectives.py",),
        "davidson",
    ),
    Breakage(
        "heads that disagree are paid for it",
        "reward_models/learned/trunk_reward.py",
        (
            (
                "scores.mean(axis=1) - (self.penalty or 0.0) * spread",
                "scores.mean(axis=1) + (self.penalty or 0.0) * spread",
            ),
        ),
        ("tests/reward_models/test_heads.py",),
        "disagree",
    ),
    Breakage(
        "a judged step is read one token early",
        "reward_models/learned/process.py",
        (("int(before[-1]) if len(before)", "int(before[-2]) if len(before) > 1"),),
        ("tests/reward_models/test_process.py",),
        "last_token",
    ),
    Breakage(
        "a judge compares two texts twice in the same order",
        "reward_models/judges/chat_judge.py",
        (("((first, second), (second, first))", "((first, second), (first, second))"),),
        ("tests/reward_models/test_chat_judge.py",),
        "both_orders",
    ),
    Breakage(
        "a judge pays for a text that it is being asked about",
        "reward_models/judges/chat_judge.py",
        (("            await others.wait()\n", "            break\n"),),
        ("tests/reward_models/test_chat_judge.py",),
        "paid_once",
    ),
    Breakage(
        "an error repeats the key of a judge's endpoint",
        "reward_models/judges/endpoint.py",
        (('text.replace(self.key, "***")', "text"),),
        ("tests/reward_models/test_chat_judge.py",),
        "without_the_key",
    ),
    Breakage(
        "a local judge reads the odds one token early",
        "reward_models/judges/word_models.py",
        (("log_probs[wanted[r, start + k], token]", "log_probs[wanted[r, start], token]"),),
        ("tests/reward_models/test_local_judge.py",),
        "naive",
    ),
    Breakage(
        "augmentation makes a training text of a held-out one",
        "envs/texts/preparation/augmentation.py",
        (("elif row.part_of is not None and row.part_of(copy) != row.part:", "elif False:"),),
        ("tests/envs/test_preparation_pipeline.py",),
        "never_crosses",
    ),
    Breakage(
        "held-out rows are augmented",
        "envs/texts/preparation/augmentation.py",
        (('if row.part not in ("", TRAIN) or row.origin is not None:', "if row.origin:"),),
        ("tests/envs/test_preparation_pipeline.py",),
        "held_out_rows or never_crosses",
    ),
    Breakage(
        "an augmented text depends on the rows before it",
        "envs/texts/preparation/augmentation.py",
        (("default_rng((self.seed, row.number))", "default_rng((self.seed, count.added))"),),
        ("tests/envs/test_preparation_pipeline.py",),
        "own_row_only",
    ),
    Breakage(
        "a mixed file is read as one charset",
        "envs/texts/encodings.py",
        (("        if last_utf8:\n", "        if False:\n"),),
        ("tests/envs/test_encodings.py",),
        "mixed",
    ),
    Breakage(
        "a word tokenizer takes <0x41> in a text for the byte",
        "tokenizer_words.py",
        (("_NEVER = -1e4", "_NEVER = -1.0"),),
        ("tests/test_word_tokenizer.py",),
        "comes_back_exactly",
    ),
)
