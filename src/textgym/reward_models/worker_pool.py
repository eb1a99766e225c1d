"""A slow reward model in several processes at once."""

import inspect
import multiprocessing
import multiprocessing.connection
import signal
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from textgym.errors import InputError, RewardError, RewardFailure
from textgym.reward_arguments import TOKEN_IDS, signature_of
from textgym.reward_models.composition import PartScores, score_part
from textgym.reward_models.time_limit import check_seconds
from textgym.rewards import Reward, RewardOutput, check_reward, reward_name
from textgym.states import has_state
from textgym.trl_rewards import TrainerState, set_trainer_state, trainer_state_of

_START_SECONDS = 300.0  # a worker imports what its reward model needs


class _Question(NamedTuple):
    """What a worker is asked."""

    prompts: Sequence[str]
    completions: Sequence[str]
    columns: dict[str, Sequence[Any]]
    completion_ids: Sequence[Sequence[int]] | None
    trainer_state: TrainerState | None


class _Worker(NamedTuple):
    """A process and the end of its pipe."""

    process: Any
    pipe: Any


class WorkerPool:
    """A reward model in worker processes, each with a copy of its own, that share a call's texts.

    For one that computes slowly in Python. The processes start at the first call (as new ones,
    nothing is forked), stay, and end with this one. A call's texts are cut into as many equal parts
    as there are workers; answers come back in order. So the model is to score each text by itself.

    What the model raises is raised here. A worker that dies, or does not answer in time, is an
    error that names the reward model and says what happened; all workers are then ended, and the
    next call (a task's `reward_retries`, say) has new ones. Nothing waits for ever.

    :param reward: a reward model that can be pickled: a function at the top of a module, or an
        object of such a class. In a script that makes one, what runs stands under
        `if __name__ == "__main__":`, since each worker imports it.
    :param workers: processes.
    :param timeout: seconds for a call; None: as long as the workers live.
    :raises InputError: for a reward model with a state (every worker would have its own), or
        settings that make no sense.
    """

    def __init__(self, reward: Reward, *, workers: int = 2, timeout: float | None = None) -> None:
        self.reward = check_reward(reward)
        self.name = reward_name(self.reward)
        if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= 1024:
            raise InputError(f"workers must be a whole number from 1 to 1024, got {workers!r:.40}")
        if timeout is not None:
            check_seconds("timeout", timeout)
        if has_state(self.reward):
            raise InputError(
                f"{self.name} keeps a state, which workers do not share: put the pool around what "
                "is inside it"
            )
        self.workers, self.timeout = workers, timeout
        self.__signature__ = _signature(self.reward)
        self._lock = threading.Lock()
        self._running: list[_Worker] = []
        self._end = weakref.finalize(self, _stop, self._running)

    @property
    def inner_rewards(self) -> list[Reward]:
        """The reward model, of which the workers have copies."""
        return [self.reward]

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Sequence[Any],
    ) -> RewardOutput:
        """:returns: the reward model's answer.

        :raises RewardFailure: if it raises, or a worker dies or hangs.
        :raises RewardError: if its answer breaks the contract.
        """
        cuts = np.array_split(np.arange(len(completions)), min(self.workers, len(completions) or 1))
        questions = [
            _Question(
                [prompts[row] for row in rows],
                [completions[row] for row in rows],
                {name: [values[row] for row in rows] for name, values in columns.items()},
                None if completion_ids is None else [list(completion_ids[row]) for row in rows],
                trainer_state_of(self.reward),
            )
            for rows in (cut.tolist() for cut in cuts)
        ]
        with self._lock:
            try:
                answers = self._ask(questions)
            except BaseException:
                self.close()
                raise
        for answer in answers:
            if isinstance(answer, RewardError):  # the model's: its worker lives on
                raise answer
        return _joined([a for a in answers if isinstance(a, PartScores)]).as_output()

    def close(self) -> None:
        """End the workers; the next call starts new ones."""
        _stop(self._running)

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        """Copies have workers of their own."""
        return _copy, (self.reward, self.workers, self.timeout)

    def _ask(self, questions: Sequence[_Question]) -> list[PartScores | RewardError]:
        if not self._running:
            self._start()
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        for question, worker in zip(questions, self._running, strict=False):
            try:
                worker.pipe.send(question)
            except OSError:
                raise self._death(worker) from None
            except Exception as error:  # a column that cannot be pickled
                raise RewardError(
                    f"reward model {self.name!r}: its worker cannot be sent the texts' columns "
                    f"({' '.join(str(error).split()):.200})"
                ) from error
        limit = f"gave no answer within {self.timeout or 0:g} s (WorkerPool's timeout)"
        return self._collect(self._running[: len(questions)], deadline, limit)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        for _ in range(self.workers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(theirs, self.reward), name=f"reward {self.name}", daemon=True
            )
            try:
                process.start()
            except (AttributeError, TypeError, ValueError, ImportError, RuntimeError) as error:
                raise self._no_start(error) from error
            except Exception as error:
                if type(error).__name__ != "PicklingError":
                    raise
                raise self._no_start(error) from error
            finally:
                theirs.close()
            self._running.append(_Worker(process, ours))
        self._collect(
            self._running,
            time.monotonic() + _START_SECONDS,
            f"has a worker that was not ready after {_START_SECONDS:g} s",
        )

    def _collect(
        self, workers: Sequence[_Worker], deadline: float | None, limit: str
    ) -> list[PartScores | RewardError]:
        """What each worker says, in order, an error of the reward model's too."""
        answers: dict[int, Any] = {}
        while len(answers) < len(workers):
            waiting = {i: w for i, w in enumerate(workers) if i not in answers}
            ends = [end for w in waiting.values() for end in (w.pipe, w.process.sentinel)]
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = multiprocessing.connection.wait(ends, left)
            if not ready:
                raise RewardFailure(f"reward model {self.name!r} {limit}")
            for place, worker in waiting.items():
                if worker.pipe in ready:
                    answers[place] = self._receive(worker)
                elif worker.process.sentinel in ready and not worker.pipe.poll():
                    raise self._death(worker)
        return [answers[place] for place in range(len(workers))]

    def _receive(self, worker: _Worker) -> Any:
        try:
            kind, answer = worker.pipe.recv()
        except (EOFError, OSError):
            raise self._death(worker) from None
        if kind == "answer":
            return answer
        error = (RewardFailure if kind == "failure" else RewardError)(answer)
        error.__cause__ = RuntimeError(answer)  # it raised, so that its text can be looked for
        return error

    def _death(self, worker: _Worker) -> RewardFailure:
        worker.process.join(1.0)
        code = worker.process.exitcode
        if code is not None and code < 0:
            how = f"was killed by signal {-code} (out of memory?)" if code == -9 else ""
            how = how or f"was ended by signal {-code}"
        else:
            how = f"ended with exit code {code}"
        return RewardFailure(
            f"reward model {self.name!r}: a worker process {how}; if it died while it started: its "
            "module must be importable, and in a script what runs stands under `if __name__ == "
            '"__main__":`'
        )

    def _no_start(self, error: BaseException) -> InputError:
        reason = " ".join(str(error).split())
        return InputError(
            f"reward model {self.name!r} cannot be sent to a worker process "
            f"({type(error).__name__}: {reason:.200}): write it as a function, or an object of a "
            "class, at the top of a module"
        )


def _copy(reward: Reward, workers: int, timeout: float | None) -> WorkerPool:
    return WorkerPool(reward, workers=workers, timeout=timeout)


def _signature(reward: Reward) -> inspect.Signature:
    """What the pool is to be given: the texts, and token ids if the reward model names them."""
    parameters = list(inspect.signature(WorkerPool.__call__).parameters.values())[1:]
    if TOKEN_IDS not in signature_of(reward).names:
        parameters = [p for p in parameters if p.name != TOKEN_IDS]
    return inspect.Signature(parameters)


def _work(pipe: Any, reward: Reward) -> None:
    """A worker: answers until the other end of its pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's, which ends us
    pipe.send(("answer", None))
    while True:
        try:
            question: _Question = pipe.recv()
        except (EOFError, OSError):
            return
        if question.trainer_state is not None:
            set_trainer_state(reward, question.trainer_state)
        try:
            answer: tuple[str, Any] = (
                "answer",
                score_part(
                    reward,
                    question.prompts,
                    question.completions,
                    question.columns,
                    question.completion_ids,
                ),
            )
        except RewardFailure as error:
            answer = "failure", str(error)
        except RewardError as error:
            answer = "error", str(error)
        try:
            pipe.send(answer)
        except OSError:
            return


def _stop(workers: list[_Worker]) -> None:
    """End processes: they hold nothing that could be lost."""
    ended, workers[:] = list(workers), []
    for worker in ended:
        worker.pipe.close()
        worker.process.kill()
    for worker in ended:
        worker.process.join(5.0)
        if worker.process.exitcode is not None:
            worker.process.close()


def _joined(answers: Sequence[PartScores]) -> PartScores:
    """Parts of a batch as one."""
    lengths = [len(answer.scores) for answer in answers]
    names = list(dict.fromkeys(name for answer in answers for name in answer.components))
    columns = list(dict.fromkeys(name for answer in answers for name in answer.extra))
    spans: list[Sequence[tuple[int, int, float]]] = []
    extra: dict[str, list[Any]] = {name: [] for name in columns}
    for answer, length in zip(answers, lengths, strict=True):
        spans += answer.spans if answer.spans is not None else [()] * length
        for name in columns:
            extra[name] += answer.extra.get(name, [None] * length)
    return PartScores(
        np.concatenate([answer.scores for answer in answers]),
        {
            name: np.concatenate(
                [
                    answer.components.get(name, np.full(length, np.nan))
                    for answer, length in zip(answers, lengths, strict=True)
                ]
            )
            for name in names
        },
        spans if any(answer.spans is not None for answer in answers) else None,
        extra,
    )
