"""Wilson's interval of a share."""

from math import sqrt


def wilson_interval(share: float, n: float, quantile: float) -> tuple[float, float]:
    """The score interval of a share of n independent cases (Wilson 1927), inside [0, 1].

    :param n: above 0; need not be whole where it is an effective number of cases.
    :param quantile: of the normal distribution, 1.96 for 95%, or of Student's where the variance is
        estimated.
    """
    square = quantile**2
    center = (share + square / (2 * n)) / (1 + square / n)
    half = quantile * sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    return max(0.0, center - half), min(1.0, center + half)
