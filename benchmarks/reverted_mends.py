"""Faults that were found in use and mended, each brought back as an edit of the source.

They are of kinds: texts and tokens, rewards and records, files, checkpoints of others, numbers that
make no sense. `mutations.py --table reverted_mends` applies them one by one to a copy and runs the
tests that are to notice; whoever mends a fault adds a line here.
"""

from breakages import Breakage

AGENTS, ENVS, POLICIES = "tests/agents", "tests/envs", "tests/policies"
REWARDS, FAULTS = "tests/reward_models", "tests/faults"
DIRECTORIES = "tests/test_directories.py"
RUNS = f"{AGENTS}/test_run_directory.py"
CONTRACT = "tests/test_rewards_contract.py"
CONTEXT = "tests/test_tokenizer_context.py"
STOPS = f"{POLICIES}/test_stop_and_pad_tokens.py"
OTHERS = f"{AGENTS}/test_checkpoints_of_others.py"
OVERRIDES = f"{AGENTS}/test_loading_overrides.py"
DIVERGENCE = f"{AGENTS}/test_divergence.py"
RECORDING = f"{AGENTS}/test_recording.py"
HELPERS = f"{AGENTS}/test_sb3_helpers.py"
OBJECTS = "tests/test_front_door_objects.py"
ARGUMENTS = "tests/test_front_door_arguments.py"
LIMITS = "tests/test_limits.py"
CHECKS = "tests/test_checks.py"
FINGERPRINTS = f"{AGENTS}/test_fingerprints.py"
CRAFTED = f"{FAULTS}/test_crafted_checkpoints.py"
RESUMES = f"{FAULTS}/test_pretraining_resumes.py"

FILES = (
    Breakage(
        "14: loaded weights stand wherever the header of their file ended",
        "policies/language_model/checkpoint.py",
        ((".to(dtype, copy=True)", ".to(dtype)"),),
        (f"{POLICIES}/test_lstm_language_model.py",),
        "comes_back_to_the_last_bit",
    ),
    Breakage(
        "1: saving deletes what else stands in the directory",
        "directories.py",
        (
            (
                "return not here.is_relative_to(path) and next(_foreign(path), None) is None",
                "return not here.is_relative_to(path)",
            ),
        ),
        (DIRECTORIES,),
        "stays_in_place or comes_while",
    ),
    Breakage(
        "1: a file of the user's is replaced by ours of the same name",
        "directories.py",
        (("        if blocked:\n", "        if False:\n"),),
        (DIRECTORIES,),
        "never_replaced or may_be_the_users",
    ),
    Breakage(
        "1: a link to a folder becomes a folder",
        "directories.py",
        (("resolved = Path(os.path.realpath(path))", "resolved = Path(os.path.abspath(path))"),),
        (DIRECTORIES,),
        "link_to_a_directory",
    ),
    Breakage(
        "1: a tokenizer is saved over what is not ours",
        "tokenizer_files.py",
        (
            (
                'if {"config.json", "reward_model.json"} & (listed_files(path) or set()):',
                "if False:",
            ),
        ),
        ("tests/test_tokenizer.py",),
        "keeps_the_tokenizer",
    ),
    Breakage(
        "1: a run begins in a directory of somebody else's files",
        "agents/runs/occupied.py",
        (
            (
                "if directory.is_dir() and not (_is_run(directory) or is_empty(directory)):",
                "if False:",
            ),
        ),
        (RUNS,),
        "somebody_elses",
    ),
    Breakage(
        "1: make_agent(out=) twice mixes two runs",
        "agents/runs/directory.py",
        (
            (
                "if free_name and (holds_run(directory) or not (is_first or is_empty(directory))):",
                "if False:",
            ),
            ("        if holds_run(directory):\n", "        if False:\n"),
        ),
        (RUNS,),
        "run_again or takes_the_next",
    ),
    Breakage(
        "1: an agent beside a running one writes into its directory",
        "agents/runs/run.py",
        (("self._lock.enter_context(run_lock(self.directory))", "pass"),),
        (RUNS,),
        "two_agents or another_process",
    ),
    Breakage(
        "1: an agent with a run directory leaves no checkpoint",
        "agents/building/build.py",
        (("        LearnInRun(agent, run, plan or CheckpointPlan()).attach()\n", ""),),
        (RUNS,),
        "leaves_a_checkpoint or on_the_way",
    ),
    Breakage(
        '1: "~" is a folder of that name',
        "paths.py",
        (("return Path(os.path.expanduser(path))", "return Path(path)"),),
        ("tests/test_paths.py",),
    ),
    Breakage(
        "1: a relative out= follows the current folder",
        "paths.py",
        (("return Path(os.path.abspath(expand(path)))", "return expand(path)"),),
        (RUNS,),
        "place_is_fixed",
    ),
    Breakage(
        "1: a reward model gets the task's own column objects",
        "rewards.py",
        (
            (
                "supplied[name] = [fresh(value) for value in values]",
                "supplied[name] = list(values)",
            ),
        ),
        (CONTRACT,),
        "gets_copies",
    ),
    Breakage(
        "1: columns in an ending's info are the task's own",
        "envs/texts/prompts.py",
        (
            (
                "return {name: fresh(value) for name, value in prompt.columns.items()}",
                "return dict(prompt.columns)",
            ),
        ),
        (f"{ENVS}/test_prompts.py", f"{ENVS}/test_vector_env.py"),
        "copied_for or callers_own or as_they_are",
    ),
    Breakage(
        "1: a component overwrites another of its name",
        "reward_models/composition.py",
        (
            (
                'components[free_name(f"{name}/{key}", components)] = part',
                'components[f"{name}/{key}"] = part',
            ),
        ),
        (f"{REWARDS}/test_composition.py",),
        "overwrites",
    ),
    Breakage(
        "1: two judges of one name, one report",
        "rewards_by_name.py",
        (("free_name(str(spec) if is_written else name, names)", "name"),),
        ("tests/test_verbs.py",),
        "two_objects",
    ),
    Breakage(
        "1: columns change their types in the infos of a vector environment",
        "envs/vector_env.py",
        (
            (
                "return array if _holds(array, value) else np.full(n, None, dtype=object)",
                "return array if array.dtype != object else np.full(n, '', dtype='<U20')",
            ),
        ),
        (f"{ENVS}/test_vector_env.py",),
        "as_they_are",
    ),
    Breakage(
        "1: restored groups of the optimizer win over what was given",
        "agents/building/checkpoint.py",
        (("        group.update({name: fresh[name] for name in names & fresh.keys()})\n", ""),),
        (OVERRIDES,),
        "stands_in_the_optimizer",
    ),
    Breakage(
        "1: an agent comes back with another reward, without a word",
        "agents/building/environment_record.py",
        (('        lost |= {"reward"}\n', "        pass\n"),),
        (OVERRIDES,),
        "asked_for_again",
    ),
    Breakage(
        "1: NaN in JSON",
        "storage.py",
        (
            ("return float(value) if math.isfinite(value) else None", "return float(value)"),
            ("ensure_ascii=False, allow_nan=False", "ensure_ascii=False"),
        ),
        ("tests/test_storage.py", RECORDING),
        "become_null or null_for",
    ),
    Breakage(
        "6: the old directory goes before the new one is on the disk",
        "directories.py",
        (("        sync(path.parent)  # the old one is removed only", "        # the old one"),),
        (DIRECTORIES,),
        "before_the_old_one_goes",
    ),
    Breakage(
        "6: a reader repairs, and so disturbs who saves",
        "directories.py",
        (
            (
                "    path = Path(path)\n    for attempt in range(_ATTEMPTS):",
                "    path = Path(path)\n    recover(path)\n    for attempt in range(_ATTEMPTS):",
            ),
        ),
        (DIRECTORIES,),
        "moves_nothing",
    ),
    Breakage(
        "6: a reader sees two saves mixed",
        "directories.py",
        (
            (
                "            if fingerprint(place) == before[places.index(place)]:\n",
                "            if True:\n",
            ),
        ),
        (DIRECTORIES,),
        "two_saves_mixed",
    ),
    Breakage(
        "6: a manifest that was deleted passes unnoticed",
        "manifest.py",
        (("        if must_have_manifest:\n", "        if False:\n"),),
        (f"{POLICIES}/test_run_checkpoints.py",),
        "without_its_manifest",
    ),
    Breakage(
        "6: a flipped bit in the manifest blames another file",
        "manifest.py",
        (("        if text != _text(content):\n", "        if False:\n"),),
        (DIRECTORIES,),
        "blamed_on_it",
    ),
    Breakage(
        "6: no fall-back to the checkpoint before",
        "policies/language_model/run_checkpoints.py",
        (
            (
                "            first = first or error\n            continue\n",
                "            raise\n",
            ),
        ),
        (f"{POLICIES}/test_run_checkpoints.py",),
        "damaged_best or checkpoint_before",
    ),
    Breakage(
        "6: best is saved before last, and a kill between the two ends the run for good",
        "policies/pretraining/loop.py",
        (
            (
                "        self._save(LAST, self.optimizer)\n        if self.heldout and is_best:\n"
                "            self._save(BEST)\n",
                "        if self.heldout and is_best:\n            self._save(BEST)\n"
                "        self._save(LAST, self.optimizer)\n",
            ),
        ),
        (RESUMES,),
        "between",
    ),
    Breakage(
        "6: pretraining saves by steps alone",
        "policies/pretraining/loop.py",
        (("if time.monotonic() - self.saved_at >= seconds:", "if False:"),),
        (RESUMES,),
        "by_the_clock",
    ),
    Breakage(
        "6: fit-reward saves nothing on the way",
        "agents/fitting/reward_fitting.py",
        (
            (
                "if time.monotonic() - self._last >= self.seconds or self.is_interrupted():",
                "if False:",
            ),
        ),
        (f"{AGENTS}/test_reward_fitting.py",),
        "killed or interrupt",
    ),
    Breakage(
        "6: a torn last row swallows the next good one",
        "json_lines.py",
        (("            _end_last_line(file)\n", ""),),
        ("tests/test_json_lines.py",),
        "torn",
    ),
    Breakage(
        "6: going on with a changed corpus, in silence",
        "agents/runs/fingerprints.py",
        (("        if after != before:\n", "        if False:\n"),),
        (FINGERPRINTS,),
        "changed_corpus or other_pairs",
    ),
    Breakage(
        "6: going on with an edited config.yaml, in silence",
        "agents/runs/fingerprints.py",
        (("if written and written.get(name) != config.get(name):", "if False:"),),
        (FINGERPRINTS,),
        "refuses_to_go_on",
    ),
    Breakage(
        "6: versions and threads stand in no record",
        "agents/runs/run.py",
        (('            "computed_with": computed_with(),\n', ""),),
        (FINGERPRINTS,),
        "versions_and_threads",
    ),
)

TEXTS = (
    Breakage(
        "2: a continuation is decoded as if it began a text",
        "tokenizer.py",
        (
            (
                "        if self._is_context_free:\n            return self.decode_batch(rows)\n",
                "        return self.decode_batch(rows)\n",
            ),
        ),
        (CONTEXT,),
        "keeps_its_space or by_hand",
    ),
    Breakage(
        "2: a continuation is encoded as if it began a text",
        "tokenizer.py",
        (
            (
                "rows = self._encoder.encode_continuing(texts)",
                "rows = self._encoder.encode(texts)",
            ),
        ),
        (CONTEXT,),
        "keeps_its_space or by_hand",
    ),
    Breakage(
        "2: fine-tuning encodes a completion as if it began a text",
        "policies/pretraining/documents.py",
        (
            (
                "tokenizer.encode_continuations([p for p, _ in part], [c for _, c in part])",
                "tokenizer.encode_batch([c for _, c in part])",
            ),
        ),
        (f"{AGENTS}/test_learning_from_continuations.py",),
        "fine_tuning",
    ),
    Breakage(
        "2: DPO encodes a completion as if it began a text",
        "agents/algorithms/dpo.py",
        (
            (
                "tokenizer.encode_continuation(prompt.text, completion)",
                "tokenizer.encode(completion)",
            ),
        ),
        (f"{AGENTS}/test_learning_from_continuations.py",),
        "preference",
    ),
    Breakage(
        "2: a language model reads a completion as if it began a text",
        "agents/evaluation/readers.py",
        (
            (
                "tokenizer.encode_continuations(list(prompts), list(completions))",
                "tokenizer.encode_batch(list(completions))",
            ),
        ),
        (f"{AGENTS}/test_readers.py",),
        "where_it_stands",
    ),
    Breakage(
        "2: a stop token that a template puts behind a text ends every prompt",
        "tokenizer_context.py",
        (
            (
                '            if "SpecialToken" not in piece:\n                break\n',
                '            if "SpecialToken" not in piece:\n                continue\n',
            ),
        ),
        (CONTEXT,),
        "behind_a_text",
    ),
    Breakage(
        "2: of several stop tokens one stops",
        "tokenizer.py",
        (("self.eos_token_ids = tuple(eos_token_ids)", "self.eos_token_ids = ()"),),
        (STOPS,),
        "named_stop or directory_names_stop or stop_at_each",
    ),
    Breakage(
        "2: rows of the head beyond the tokenizer are sampled",
        "policies/language_model/generation.py",
        (("*range(tokenizer.vocab_size, lm.config.vocab_size)", "*range(0)"),),
        (STOPS, f"{POLICIES}/test_sampling.py"),
        "past_the",
    ),
    Breakage(
        "2: chat templates do not survive a round trip",
        "tokenizer_files.py",
        (("for name, text in self.templates.items():", "for name, text in ():"),),
        (OTHERS,),
        "survives",
    ),
    Breakage(
        "2: generation settings do not survive a round trip",
        "tokenizer_files.py",
        (("        if self.generation is not None:\n", "        if False:\n"),),
        (OTHERS,),
        "survives",
    ),
    Breakage(
        "2: the rest of tokenizer_config.json does not survive a round trip",
        "tokenizer_files.py",
        (
            (
                "_with_roles(self.settings or _OWN_SETTINGS, tokens)",
                "_with_roles(_OWN_SETTINGS, tokens)",
            ),
        ),
        (OTHERS,),
        "survives or settings_stays",
    ),
    Breakage(
        "2: where no token fills up rows, no spare one is taken",
        "tokenizer_files.py",
        (("            if pad is None or pad in stop_tokens:\n", "            if False:\n"),),
        (STOPS,),
        "spare",
    ),
    Breakage(
        "2: pad_token= does not reach make_agent",
        "agents_by_name.py",
        (
            (
                "lm = None if policy is None else open_policy(policy, pad_token=pad_token)",
                "lm = None if policy is None else open_policy(policy)",
            ),
        ),
        (OTHERS,),
        "every_verb",
    ),
    Breakage(
        "2: combining marks end a word",
        "text_metrics/words.py",
        (('"".join(f"{chr(a)}-{chr(b)}" for', '"".join("" for'),),
        (f"{REWARDS}/test_words.py", f"{REWARDS}/test_ngram_reader.py"),
        "marks or whole_words or forms",
    ),
    Breakage(
        "2: combining marks are no part of what tells two texts apart",
        "near_copies.py",
        ((' or unicodedata.category(c)[0] == "M"', ""),),
        ("tests/test_near_copies.py", f"{ENVS}/test_cleaning.py"),
        "marks or vowel",
    ),
    Breakage(
        "2: near-copies stand on both sides of a split",
        "splits.py",
        (("near = _joined_rows(equal, row_of[is_own], near_texts)", "near = equal"),),
        ("tests/test_splits.py",),
        "near_copy_crosses or long_completion",
    ),
    Breakage(
        "2: judgements of one text stand on both sides of a fit",
        "splits.py",
        (("equal = _joined_rows(single, row_of, equal_text_groups(texts))", "equal = single"),),
        ("tests/test_splits.py",),
        "short_answer",
    ),
    Breakage(
        "2: a tenth held out is no tenth",
        "splits.py",
        (("target = max(least, round(share * n))", "target = max(least, round(1.4 * share * n))"),),
        ("tests/test_splits.py", f"{AGENTS}/test_held_out_texts.py"),
        "a_tenth",
    ),
    Breakage(
        "2: a field of a .csv file ends at 131,072 characters",
        "envs/texts/records.py",
        (
            (
                "csv_rows(_whole_lines(path, lines), MAX_LINE_BYTES)",
                "csv_rows(_whole_lines(path, lines), 131_072)",
            ),
        ),
        (f"{ENVS}/test_corpus.py",),
        "csv_field_may_be_as_long",
    ),
    Breakage(
        "6: CRLF inside a .csv field becomes LF",
        "envs/texts/records.py",
        (
            (
                "            yield line, _decode(raw, path, line)\n",
                '            yield line, _decode(raw, path, line).replace("\\r\\n", "\\n")\n',
            ),
        ),
        (f"{ENVS}/test_corpus.py",),
        "csv_field",
    ),
    Breakage(
        "2: markup of a generated text is rendered in TensorBoard",
        "agents/runs/markdown.py",
        (
            (
                "_CONTROL.sub(_picture, _SPECIAL.sub(_reference, text))",
                "_CONTROL.sub(_picture, text)",
            ),
        ),
        (f"{AGENTS}/test_markdown.py",),
    ),
    Breakage(
        "2: a carriage return breaks TensorBoard's table",
        "agents/runs/markdown.py",
        (
            (
                '_LINE_BREAK = re.compile("\\r\\n|[\\n\\r\\v',
                '_LINE_BREAK = re.compile("\\r\\n|[\\n\\v',
            ),
        ),
        (f"{AGENTS}/test_markdown.py",),
    ),
    Breakage(
        "2: texts lose characters in the shared memory of AsyncVectorEnv",
        "envs/text_space.py",
        (
            (
                'row[: len(text)] = np.frombuffer(text.encode("utf-32-le"), "<i4") + 1',
                'row[: len(text)] = np.frombuffer(text.encode("utf-32-le"), "<i4") % 127 + 1',
            ),
        ),
        (f"{ENVS}/test_text_space.py",),
        "comes_back or every_character",
    ),
    Breakage(
        "2: evaluate plays prompts that training refuses",
        "evaluating.py",
        (
            (
                "source = task.prompt_source()  # with the task's limits",
                "task = get_task(env, **{k: fields[k] for k in ('prompts', 'tokenizer')})\n"
                "    source = task.prompt_source()",
            ),
        ),
        (LIMITS,),
        "evaluate",
    ),
    Breakage(
        "2: generate continues prompts that an environment refuses",
        "evaluating.py",
        (("[row.text for row in source.all()],", "prompts,"),),
        (LIMITS, OBJECTS),
        "generate_refuses or prompts_to_continue",
    ),
    Breakage(
        "6: prompts are cut in silence",
        "envs/texts/prompts.py",
        (("        if self._prompts and self.truncated_count:\n", "        if False:\n"),),
        (LIMITS,),
        "says_once or what_was_cut",
    ),
    Breakage(
        "6: fit-reward shortens over-long texts without a count",
        "reward_models/learned/fit_report.py",
        (("        if self.cut_texts:\n", "        if False:\n"),),
        (f"{REWARDS}/test_fitting.py",),
        "what_was_cut",
    ),
)

RECORDS = (
    Breakage(
        "3: dense rewards: what a wrapper did does not reach the split",
        "agents/rollouts/split_rewards.py",
        (("    split = fit_split(split, float(stored[-1]))\n", ""),),
        (f"{AGENTS}/test_split_rewards.py",),
        "rollout_learns or normalised",
    ),
    Breakage(
        "3: VecNormalize makes dense rewards sparse without a word",
        "agents/rollouts/rollout_buffer.py",
        (
            (
                'if not splits and vars(self.observation_space).get("split_rows"):',
                "if False:",
            ),
        ),
        (f"{AGENTS}/test_split_rewards.py",),
        "lost",
    ),
    Breakage(
        "3: texts are passed to a reward model by position",
        "reward_arguments.py",
        (
            (
                "    named = {name: name for name in signature.names if name in supplied}\n",
                "    named = dict(zip(signature.positional, supplied, strict=False))\n",
            ),
        ),
        (CONTRACT,),
        "by_name or never_gets",
    ),
    Breakage(
        "3: a name that nobody supplies is let through",
        "reward_arguments.py",
        (
            (
                "if free and not (signature.takes_list and tuple(free) == signature.positional):",
                "if False:",
            ),
        ),
        (CONTRACT,),
        "nobody_supplies",
    ),
    Breakage(
        "3: an ending is not counted",
        "agents/runs/rollout_figures.py",
        (
            (
                "for reason in dict.fromkeys((*FINISH_REASONS, *reasons)):",
                'for reason in ("stop", "length", "truncated"):',
            ),
        ),
        (RECORDING,),
        "every_ending",
    ),
    Breakage(
        "3: set_env ends the record",
        "agents/rollouts/recording_vec_env.py",
        (("    recorder.listen_to(heard)\n", "    pass\n"),),
        (RECORDING,),
        "another_environment",
    ),
    Breakage(
        "3: the warm-up counts the steps that were foreseen",
        "optimization.py",
        (("            if begun and start:\n", "            if False:\n"),),
        (f"{AGENTS}/test_warm_up.py", "tests/test_optimization.py"),
        "waits_for_whole or say_how_long",
    ),
    Breakage(
        "3: sample texts are written every tenth rollout only",
        "agents/runs/recording.py",
        (
            (
                "return step >= end or is_half or self.updates - last_update >= self.sample_every",
                "return self.updates - last_update >= self.sample_every",
            ),
        ),
        (RECORDING,),
        "samples_are_of",
    ),
    Breakage(
        "3: config.yaml lacks the settings that were used",
        "agents/building/build.py",
        (('        **built["keywords"],\n', ""),),
        (OVERRIDES,),
        "made_again",
    ),
    Breakage(
        "3: tokens are drawn from weights that are not numbers",
        "policies/language_model/sampling.py",
        (("    if not math.isfinite(float(total.detach().sum())):\n", "    if False:\n"),),
        (DIVERGENCE,),
        "draws_nothing",
    ),
    Breakage(
        "3: weights that are not finite replace a good checkpoint",
        "agents/building/checkpoint.py",
        (("    check_policy(policy)\n", ""),),
        (DIVERGENCE,),
        "never_saved or keeps_its_checkpoint",
    ),
    Breakage(
        "3: a single advantage is normalised to NaN",
        "agents/building/specs.py",
        (("        _check_normalized(name, settings, n_envs)\n", ""),),
        (DIVERGENCE,),
        "single_advantage",
    ),
    Breakage(
        "6: a finite but huge reward is learned from",
        "reward_answers.py",
        (("    if is_huge.any() and not is_none_allowed:\n", "    if False:\n"),),
        (DIVERGENCE,),
        "huge_reward and ppo",
    ),
    Breakage(
        "6: what overflows float32 in a rollout is learned from",
        "divergence.py",
        (("        if is_bad.any():\n", "        if False:\n"),),
        (DIVERGENCE,),
        "past_the_contract or what_is_not_finite",
    ),
    Breakage(
        "6: a step is taken along gradients that are not finite",
        "divergence.py",
        (("    if not math.isfinite(norm):\n", "    if False:\n"),),
        (DIVERGENCE,),
        "takes_no_step",
    ),
    Breakage(
        "6: the first NaN of a pretraining counts as its best",
        "policies/pretraining/loop.py",
        (("            if not math.isfinite(loss):\n", "            if False:\n"),),
        (DIVERGENCE,),
        "never_the_best",
    ),
    Breakage(
        "6: equal rewards of all texts warn nobody",
        "agents/runs/flat_rewards.py",
        (("            self._rollouts += 1\n", "            pass\n"),),
        (DIVERGENCE,),
        "equal_rewards",
    ),
    Breakage(
        "6: sys.exit inside a reward model ends the run in silence",
        "rewards.py",
        (
            (
                "    except BaseException as error:  # SystemExit too: it would end the run without"
                ' a word\n        text = " "',
                '    except Exception as error:\n        text = " "',
            ),
        ),
        (CONTRACT,),
        "whatever_it_raises",
    ),
    Breakage(
        "6: a reward model moves the process to another folder",
        "rewards.py",
        (("        if directory is not None and now != directory:\n", "        if False:\n"),),
        (CONTRACT,),
        "working_directory",
    ),
    Breakage(
        "6: what was learned is lost where a reward model raises",
        "agents/building/learning.py",
        (("            if self._has_begun and not self.run.is_busy:", "            if False:"),),
        (DIVERGENCE,),
        "saved_too",
    ),
    Breakage(
        "6: a reward model is not asked again",
        "rewards.py",
        (("    for attempt in range(retries + 1):\n", "    for attempt in (retries,):\n"),),
        (CONTRACT,),
        "retries",
    ),
    Breakage(
        "6: runs of neighbouring seeds share their prompt streams",
        "agents/rollouts/vec_env.py",
        (("    return int(state[0] >> 1)\n", "    return int(seed)\n"),),
        (f"{AGENTS}/test_vec_env.py",),
        "neighbouring",
    ),
)

CLIENTS = (
    Breakage(
        "4: an unknown render mode is no TypeError",
        "errors.py",
        (
            (
                "class RenderModeError(UnknownNameError, TypeError):",
                "class RenderModeError(UnknownNameError):",
            ),
        ),
        (f"{ENVS}/test_text_env.py", HELPERS),
        "render_mode or takes_an_id or take_an_id",
    ),
    Breakage(
        "4: a human sees nothing",
        "envs/rendering.py",
        (('        print(for_output(new), end="\\n" if is_over else "", flush=True)\n', ""),),
        (f"{ENVS}/test_text_env.py",),
        "human_reads",
    ),
    Breakage(
        "4: an agent is no policy",
        "policies/language_model/models_by_name.py",
        (('lm = getattr(getattr(owner, "policy", owner), "lm", None)', "lm = None"),),
        (OBJECTS,),
        "stands_for_its_model",
    ),
    Breakage(
        "4: the heads of a bfloat16 policy are fed bfloat16",
        "policies/sb3/actor_critic.py",
        (("return self.value_net(hidden.float())", "return self.value_net(hidden)"),),
        (f"{AGENTS}/test_bfloat16.py",),
        "ppo",
    ),
    Breakage(
        "4: a pattern that is a number becomes a number",
        "typed_arguments.py",
        (
            (
                "        return as_json if isinstance(as_json, str) else text\n",
                "        return as_json\n",
            ),
        ),
        ("tests/test_typed_arguments.py",),
    ),
    Breakage(
        '4: "start" is a directory',
        "paths.py",
        (("    if name not in (START, CHINESE_START, *FETCHED):\n", "    if True:\n"),),
        (OBJECTS,),
        "start_is_the_bundled",
    ),
    Breakage(
        "4: a fresh byte model on an English task warns nobody",
        "agents_by_name.py",
        (("        _warn_of_a_fresh_model(task, shown)\n", ""),),
        (ARGUMENTS,),
        "fresh_model",
    ),
    Breakage(
        "4: a run directory does not open in transformers",
        "agents/building/learning.py",
        (("    publish(directory)\n", ""),),
        (f"{POLICIES}/test_run_checkpoints.py",),
        "transformers_opens",
    ),
    Breakage(
        "4: generate draws the same at each call",
        "policies/language_model/language_model.py",
        (("generator.seed()", "generator.manual_seed(0)"),),
        (ARGUMENTS,),
        "draws_anew",
    ),
    Breakage(
        "4: a reference without a KL term is passed over",
        "agents/building/build.py",
        (
            (
                '        if reference is not None or kl_estimator != "k1":\n',
                "        if False:\n",
            ),
        ),
        (ARGUMENTS,),
        "would_not_be_used",
    ),
    Breakage(
        "4: the command does not see the current folder",
        "command_line/imports.py",
        (("        sys.path.append(os.getcwd())\n", "        pass\n"),),
        (ARGUMENTS,),
        "sees_the_current_folder or stands_here",
    ),
    Breakage(
        "4: the progress bar shows nothing",
        "agents/runs/callbacks.py",
        (("        self._bar.update(min(done", "        (min(done"),),
        (ARGUMENTS,),
        "counts_tokens",
    ),
    Breakage(
        "5: a fit is as long as a clock says",
        "reward_models/learned/fitting_loop.py",
        (
            (
                "        is_timed = budget.seconds is not None and self.step > 0\n",
                "        is_timed = self.step > 0\n",
            ),
        ),
        (f"{REWARDS}/test_fitting.py",),
        "no_clock",
    ),
    Breakage(
        "5: the demo's reward model is the trunk, whatever is better",
        "demonstration/reward.py",
        (
            (
                "used = max(models, key=lambda name: chosen_on[name])",
                "used = min(models, key=lambda name: chosen_on[name])",
            ),
        ),
        ("tests/test_demonstration.py",),
        "best_of_what_there_is",
    ),
    Breakage(
        "5: a slow machine is not told of the short form",
        "demonstration/parts.py",
        (("        if needed > PATIENCE:\n", "        if False:\n"),),
        ("tests/test_demonstration.py",),
        "slow_machine",
    ),
    Breakage(
        "5: bits per character are those of prompt and completion together",
        "agents/evaluation/readers.py",
        (("Document([*start, *end], len(start))", "Document([*start, *end], 1)"),),
        (f"{AGENTS}/test_readers.py",),
    ),
)

BAD_INPUT = (
    Breakage(
        "6: pretrain --steps 0 never ends",
        "checks.py",
        (
            (
                '"steps": _whole(1, _BUDGET, "optimizer steps")',
                '"steps": _whole(-9, _BUDGET, "optimizer steps")',
            ),
        ),
        (CHECKS, "tests/test_bad_flags.py"),
        "leaves_nothing or ends_of_a_range or (functions and pretrain)",
    ),
    Breakage(
        "6: a FIFO is opened, and waited for",
        "storage.py",
        (("    if not stat.S_ISREG(mode):\n", "    if stat.S_ISDIR(mode):\n"),),
        ("tests/test_storage.py",),
        "regular_files",
    ),
    Breakage(
        "6: a word list that is a FIFO is waited for",
        "reward_models/rules/lexicon.py",
        (("        require_regular_file(path)\n", ""),),
        (f"{AGENTS}/test_named_files.py",),
        "word_list and fifo",
    ),
    Breakage(
        "6: n_envs and n_steps of 1e9 take the machine down",
        "agents/building/build.py",
        (
            (
                "    check_rollout_memory(settings, env, lm, "
                "is_off_policy=isinstance(spec, OffPolicySpec))\n",
                "",
            ),
        ),
        (CHECKS,),
        "exceeds_the_memory",
    ),
    Breakage(
        "6: a crafted size is believed before the files are looked at",
        "policies/language_model/checkpoint.py",
        (("    _check_size(config, source.room(), directory)\n", ""),),
        (CRAFTED,),
        "before_memory",
    ),
    Breakage(
        "6: a panic inside the tokenizer library passes through",
        "tokenizer_files.py",
        (
            (
                'if isinstance(error, Exception) or type(error).__name__ == "PanicException":',
                "if isinstance(error, ValueError):",
            ),
        ),
        (CRAFTED, "tests/test_tokenizer.py"),
        "panic",
    ),
    Breakage(
        "6: a checkpoint says where to write",
        "agents/building/saved_state.py",
        (
            (
                "            if not (is_word or _is_numbers(item)):\n",
                "            if False:\n",
            ),
        ),
        (CRAFTED,),
        "no_place",
    ),
    Breakage(
        "6: a checkpoint chooses the files that are read",
        "saved_agents.py",
        (("    check_named_files(directory, state, given)\n", ""),),
        (f"{AGENTS}/test_named_files.py",),
        "is_not",
    ),
    Breakage(
        "6: a checkpoint names code, which is imported",
        "saved_agents.py",
        (("    check_names_no_code(directory, environment, given)\n", ""),),
        (f"{AGENTS}/test_loading_names.py",),
    ),
    Breakage(
        "6: numbers out of range reach torch",
        "checks.py",
        (("        if not allowed.holds(value):\n", "        if False:\n"),),
        (CHECKS,),
        "names_the_keyword or leaves_nothing",
    ),
    Breakage(
        "6: --device cuda runs on the CPU",
        "checks.py",
        (('        if name == "device" and value is not None:\n', "        if False:\n"),),
        (CHECKS,),
        "device or gpu or names_the_keyword",
    ),
    Breakage(
        '6: --out "" writes into the current folder',
        "paths.py",
        (("    if not text.strip():\n", "    if False:\n"),),
        (RUNS, "tests/test_bad_flags.py"),
        "no_directory_can_have or (in_one_line and generate)",
    ),
    Breakage(
        "6: YAML that contains itself",
        "yaml_files.py",
        (("    if not _is_tree(content):\n", "    if False:\n"),),
        ("tests/test_config_file.py",),
        "mistakes",
    ),
    Breakage(
        "6: --policy-kwargs that is no table, or has unknown keys",
        "agents/building/build.py",
        (
            (
                '    check_table("policy_kwargs", table, constructors(spec.policy_class))\n',
                "",
            ),
        ),
        (CHECKS,),
        "known_keys",
    ),
    Breakage(
        "6: a port that is no port",
        "command_line/tensorboard.py",
        (("    port = _free_port(host, port)\n", ""),),
        ("tests/test_bad_flags.py",),
        "in_one_line and tensorboard",
    ),
    Breakage(
        "6: Ctrl-C in the first fifth of a second is a traceback",
        "starting.py",
        (("        _handle(_leave)\n", "        pass\n"),),
        ("tests/test_starting.py",),
        "one_line_while",
    ),
    Breakage(
        "6: a generated text moves the cursor of a terminal",
        "command_line/output.py",
        (
            (
                'print(for_output(f"{prompt}{between}{text}"))',
                'print(f"{prompt}{between}{text}")',
            ),
        ),
        ("tests/test_terminal.py",),
    ),
    Breakage(
        "an error that a judge raises in training does not say at which step",
        "rewards.py",
        (("error.args = (where.with_step(str(error)),)", "pass"),),
        ("tests/faults/test_judges_that_fail.py",),
        "changes_no_weight and 500",
    ),
    Breakage(
        "one item is counted as 1 items",
        "counts.py",
        (("noun if number == 1 else plural or noun + 's'", "plural or noun + 's'"),),
        ("tests/test_counts.py",),
    ),
    Breakage(
        "what the guards of a study's runs raised is not told",
        "agents/comparison/cautions.py",
        (("        *guard_cautions(study),\n", ""),),
        ("tests/agents/test_verdict.py",),
        "alarms_of_the_guards",
    ),
    Breakage(
        "a run that is compared has no guards",
        "comparing.py",
        (('        "guards": guards,\n', ""),),
        ("tests/test_comparing.py",),
        "ends_as_its_command_line",
    ),
    Breakage(
        "a prompt that is copied more and more is no sign until it is half of the text",
        "agents/runs/alarms.py",
        (("    if rise[is_known].mean() < limits.gold_fall * then.std():", "    if True:"),),
        ("tests/agents/test_guards.py",),
        "copied_more",
    ),
    Breakage(
        "a pair that is closed comes back as a hidden repeat",
        "reward_models/people/queue.py",
        (("    AND items.is_open AND items.kind = 'pair'", "    AND items.kind = 'pair'"),),
        ("tests/reward_models/people/test_queue.py",),
        "never_of_what_is_closed",
    ),
    Breakage(
        "a hidden repeat comes two answers after its pair",
        "reward_models/people/queue.py",
        (("OFFSET :after - 1)", "OFFSET :after - :after + 1)"),),
        ("tests/reward_models/people/test_queue.py",),
        "ten_answers_later",
    ),
    Breakage(
        "KL is an alarm though gold rose beyond doubt",
        "agents/runs/guards.py",
        (
            (
                "        if kl > self.limits.kl and not self.gold_rose_surely():",
                "        if kl > self.limits.kl:",
            ),
        ),
        ("tests/agents/test_guards.py",),
        "gold_rose_surely",
    ),
    Breakage(
        "gold is well however far it fell from its best",
        "agents/runs/guards.py",
        ((" and means[-1] > max(means) - self.limits.gold_fall * unit", ""),),
        ("tests/agents/test_guards.py",),
        "gold_is_well",
    ),
    Breakage(
        "a study's verdict is not told in TensorBoard",
        "agents/comparison/study_events.py",
        (("        if verdict is not None:\n", "        if False:\n"),),
        ("tests/agents/test_study_events.py",),
        "verdict",
    ),
    Breakage(
        "a character of a quatrain rhymes with itself",
        "reward_models/rules/quatrains.py",
        (
            (
                "    by_rhyme: dict[str, set[str]] = {}\n",
                "    by_rhyme: dict[str, set[str]] = {}\n"
                '    ends = [f"{place}{end}" for place, end in enumerate(ends)]\n',
            ),
        ),
        ("tests/reward_models/test_quatrains.py",),
    ),
    Breakage(
        "all lines of a quatrain are to have one tone pattern",
        "reward_models/rules/quatrains.py",
        (
            (
                "((True, False, False, True), (False, True, True, False))",
                "((True, True, True, True), (False, False, False, False))",
            ),
        ),
        ("tests/reward_models/test_quatrains.py",),
    ),
    Breakage(
        "pairs across two clusters count as if they were independent",
        "reward_models/pair_accuracy.py",
        (("    sums += np.bincount(other[is_across], error[is_across], count)\n", ""),),
        ("tests/reward_models/test_pair_accuracy.py",),
        "across_clusters",
    ),
)

STUDIES = (
    Breakage(
        "7: a record without its first evaluation begins with the second one",
        "agents/comparison/found_runs.py",
        (("if not steps or self.record.lost:", "if not steps:"),),
        (f"{AGENTS}/test_reading_studies.py",),
        "lacks_an_earlier_evaluation",
    ),
    Breakage(
        "7: a run that cannot be read was never begun",
        "agents/comparison/study_notes.py",
        (
            (
                'reason = "was never begun" if why is None else',
                'reason = "was never begun" if 1 else',
            ),
        ),
        (f"{AGENTS}/test_reading_studies.py",),
        "not_said_to_be_missing",
    ),
    Breakage(
        "7: cells that are no longer on the command line are counted",
        "agents/comparison/study_notes.py",
        (("if slug_of_run(run.name) not in written.dropped]", "]"),),
        (f"{AGENTS}/test_reading_studies.py",),
        "compare_dropped",
    ),
    Breakage(
        "7: a study.json that nobody can read is the end of the report",
        "agents/comparison/reading.py",
        (("    except InputError as error:\n", "    except KeyError as error:\n"),),
        (f"{AGENTS}/test_reading_studies.py",),
        "study_file_that_no_one",
    ),
    Breakage(
        "7: a reward model that raises ends the runs of the other cells",
        "agents/evaluation/held_out_texts.py",
        (("            if name not in self.lookers:\n", "            if True:\n"),),
        (f"{AGENTS}/test_held_out_evaluations.py",),
        "shadow_that_fails",
    ),
    Breakage(
        "7: a policy of another study is called seed-0",
        "agents/comparison/cells.py",
        (("re.fullmatch(_SAYS_NOTHING, parts[-count])", "False"),),
        (f"{AGENTS}/test_comparison_cells.py",),
        "only_what_differs",
    ),
    Breakage(
        "7: a judge that gives all texts one score has a first and a last cell",
        "agents/comparison/headline.py",
        (("    if judgement.tells_nothing:\n", "    if False:\n"),),
        (f"{AGENTS}/test_verdict.py",),
        "few_values",
    ),
    Breakage(
        "7: two seeds that agree by chance leave an interval without width",
        "agents/comparison/intervals.py",
        (("if variance.total <= 1e-12 * variance.noise:", "if False:"),),
        (f"{AGENTS}/test_intervals.py",),
        "agree_by_chance",
    ),
)

REVERTED_MENDS = (*FILES, *TEXTS, *RECORDS, *CLIENTS, *BAD_INPUT, *STUDIES)
