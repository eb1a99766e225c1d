"""A number with its noun, as it is printed: "1 item", "2,000 items"."""


def count_of(number: int, noun: str, plural: str = "") -> str:
    """A number and what it counts.

    :param noun: in the singular; its last word takes the s.
    :param plural: where an s is not enough.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
