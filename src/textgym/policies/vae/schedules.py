"""How the weight of the KL term grows while a text variational autoencoder is trained."""

from textgym.errors import InputError

SCHEDULES = ("cyclical", "linear", "constant")


def kl_weight(
    progress: float, *, schedule: str = "linear", warmup: float = 0.3, cycles: int = 4
) -> float:
    """The factor on the KL term, 0 to 1.

    `linear` (Bowman et al. 2016, "Generating Sentences from a Continuous Space"): from 0 to 1 over
    the first `warmup` of the training. `cyclical` (Fu et al. 2019, "Cyclical Annealing Schedule"):
    the training is `cycles` equal parts, and in each the weight goes from 0 to 1 over the first
    `warmup` of the part. `constant`: 1, the plain bound.

    :param progress: share of the training that is done, 0 to 1.
    :raises InputError: for another schedule.
    """
    if schedule not in SCHEDULES:
        raise InputError(f"kl_schedule must be one of {', '.join(SCHEDULES)}, got {schedule!r}")
    if schedule == "constant" or warmup == 0 or progress >= 1:
        return 1.0
    if schedule == "cyclical":
        progress = progress * cycles % 1.0
    return min(1.0, progress / warmup)
