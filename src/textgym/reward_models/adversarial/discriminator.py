"""The discriminator: a small network on frozen features that tells a corpus from a policy's texts.

Goodfellow et al. 2014; on text as a reward model Yu et al. 2017 (SeqGAN). Of later cures it has
one-sided label smoothing (Salimans et al. 2016) and a bound on how fast its score can change: after
each step the spectral norm of the first layer is cut to `lipschitz` and the second layer's norm to
1 (Gouk et al. 2021; Miyato et al. 2018 divide by an estimate of it instead). A score that moves
slowly still tells a policy which way is better where the two kinds of text are far apart.

Legend: `b` texts, `d` features, `h` hidden units.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from textgym.errors import InputError
from textgym.reward_models.learned.linear import one_thread
from textgym.saved_fields import SavedFields

Array = npt.NDArray[np.floating[Any]]
HIDDEN = 64
SLOPE = 0.2  # of the leaky rectifier, below 0
WEIGHTS = ("first", "bias", "second", "shift")


class Discriminator:
    """A network of one hidden layer; its score is the log-odds that a text is the corpus's.

    :param size: d, features of a text.
    :param lipschitz: the most that the score changes per unit of distance between features.
    :param seed: of the first weights.
    :raises InputError: for a size below 1 or a bound that is not above 0.
    """

    def __init__(self, size: int, *, lipschitz: float = 16.0, seed: int = 0) -> None:
        if size < 1 or not 0 < lipschitz < float("inf"):
            raise InputError(f"expected size >= 1 and lipschitz > 0, got {size=}, {lipschitz=}")
        self.size, self.lipschitz = size, float(lipschitz)
        rng = np.random.default_rng([seed, size])
        self.weights: dict[str, Tensor] = {
            "first": torch.from_numpy(rng.standard_normal((HIDDEN, size)) / size**0.5).float(),
            "bias": torch.zeros(HIDDEN),
            "second": torch.from_numpy(rng.standard_normal(HIDDEN) / HIDDEN**0.5).float(),
            "shift": torch.zeros(()),
        }
        self._project()

    def scores(self, features: Array) -> npt.NDArray[np.float64]:
        """float64 [b], log-odds of features [b, d]."""
        with torch.no_grad(), one_thread():
            return self._forward(torch.from_numpy(features).float()).double().numpy()

    def fit(
        self,
        real: Array,
        written: Array,
        rng: np.random.Generator,
        *,
        recent: int,
        steps: int = 20,
        batch_size: int = 64,
        learning_rate: float = 0.003,
        smoothing: float = 0.1,
    ) -> float:
        """Adam's steps on the binary cross-entropy, from the weights as they are.

        :param real: float32 [b, d], features of the corpus's texts.
        :param written: float32 [b', d], of the policy's.
        :param rng: of the batches.
        :param recent: last rows of either kind from which half of a batch is drawn; the other half
            is drawn from all.
        :param steps: batches, each of `batch_size` rows of either kind.
        :param smoothing: the label of a real text is 1 - smoothing; a written one's is 0.
        :returns: the mean loss of the last half of the steps, in nats.
        :raises InputError: if there is nothing of either kind.
        """
        if not len(real) or not len(written):
            raise InputError(
                f"a discriminator needs texts of both kinds, got {len(real)} of the corpus and "
                f"{len(written)} of a policy"
            )
        weights = [tensor.requires_grad_(True) for tensor in self.weights.values()]
        optimizer = torch.optim.Adam(weights, lr=learning_rate, betas=(0.5, 0.999))
        label = torch.cat([torch.full((batch_size,), 1 - smoothing), torch.zeros(batch_size)])
        losses = []
        with torch.enable_grad(), one_thread():
            for _ in range(steps):
                rows = [
                    part[_places(len(part), recent, batch_size, rng)] for part in (real, written)
                ]
                scores = self._forward(torch.from_numpy(np.concatenate(rows)).float())
                loss = F.binary_cross_entropy_with_logits(scores, label)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                self._project()
                losses.append(float(loss.detach()))
        for tensor in weights:
            tensor.requires_grad_(False)
            tensor.grad = None
        return float(np.mean(losses[len(losses) // 2 :]))

    def _forward(self, features: Tensor) -> Tensor:
        """[b] of [b, d]."""
        w = self.weights
        hidden = F.leaky_relu(features @ w["first"].T + w["bias"], SLOPE)
        return hidden @ w["second"] + w["shift"]

    def _project(self) -> None:
        """Cut the norms of both layers to their bounds."""
        with torch.no_grad():
            first, second = self.weights["first"], self.weights["second"]
            norm = float(torch.linalg.eigvalsh(first @ first.T)[-1].clamp(min=0)) ** 0.5
            first.mul_(min(1.0, self.lipschitz / max(norm, 1e-12)))
            second.mul_(min(1.0, 1 / max(float(second.norm()), 1e-12)))

    def state_dict(self) -> dict[str, Any]:
        """The weights, float32 arrays."""
        return {name: tensor.numpy().copy() for name, tensor in self.weights.items()}

    def load_state_dict(self, state: SavedFields) -> None:
        """Go on from weights of `state_dict`.

        :raises InputError: if they are of another shape, or not finite.
        """
        shapes: Sequence[tuple[int, ...]] = [tuple(t.shape) for t in self.weights.values()]
        for name, shape in zip(WEIGHTS, shapes, strict=True):
            array = state.array(name, "float32", shape)
            if not np.isfinite(array).all():
                raise state.error(name, "finite numbers")
            self.weights[name] = torch.from_numpy(array.copy())


def _places(rows: int, recent: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """int64 [count], half of them among the last rows."""
    late = count // 2
    return np.concatenate(
        [
            rng.integers(max(0, rows - recent), rows, size=late),
            rng.integers(rows, size=count - late),
        ]
    )
