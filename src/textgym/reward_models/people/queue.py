"""Which item a rater sees next.

k raters an item, nobody twice; what a rater holds is reserved until its lease ends. In between,
gold items and hidden repeats come at fixed shares. All chance comes from the store's seed, the
rater and how much the rater has seen, so that a store replays.
"""

import random
import sqlite3

PRIME = 2_147_483_647
REPEAT_AFTER = 10  # answers of a rater between a pair and its repeat, at least

_OPEN = """
SELECT items.id FROM items
WHERE is_open AND kind IN ({kinds}) AND gold IS {gold} NULL
    AND NOT EXISTS (
        SELECT 1 FROM showings AS own WHERE own.item = items.id AND own.rater = :rater
        AND NOT own.is_repeat AND (own.answer IS NOT NULL OR own.expires_at > :now))
    {limit}
ORDER BY priority DESC, (items.id % {prime}) * :factor % {prime}, items.id LIMIT 1
"""
_LIMIT = """AND :raters > (
        SELECT count(*) FROM showings AS other WHERE other.item = items.id
        AND other.rater <> :rater AND NOT other.is_repeat
        AND ((other.answer IS NOT NULL AND NOT other.is_skipped)
            OR (other.answer IS NULL AND other.expires_at > :now)))"""
_REPEATABLE = """
SELECT shown.item, shown.is_swapped FROM showings AS shown JOIN items ON items.id = shown.item
WHERE shown.rater = :rater AND NOT shown.is_repeat AND NOT shown.is_skipped
    AND items.is_open AND items.kind = 'pair' AND items.gold IS NULL
    AND shown.answer < (SELECT answer FROM showings WHERE rater = :rater AND answer IS NOT NULL
        ORDER BY answer DESC LIMIT 1 OFFSET :after - 1)
    AND NOT EXISTS (SELECT 1 FROM showings AS again WHERE again.item = shown.item
        AND again.rater = :rater AND again.is_repeat)
ORDER BY shown.answer
"""


def pick(
    connection: sqlite3.Connection,
    rater: int,
    now: float,
    *,
    kinds: tuple[str, ...],
    raters: int,
    seed: int,
    repeats: float,
    gold: float,
) -> tuple[int, bool, bool] | None:
    """`(item, is_swapped, is_repeat)` of what a rater sees next; None if there is nothing.

    :param rater: its id.
    :param kinds: of items that are wanted.
    :param raters: how many people an item is for.
    :param repeats, gold: shares of the showings.
    """
    [seen] = connection.execute(
        "SELECT count(*) FROM showings WHERE rater = ?", (rater,)
    ).fetchone()
    rng = random.Random(f"{seed} {rater} {seen}")
    chance, is_swapped = rng.random(), rng.random() < 0.5
    if chance < repeats and "pair" in kinds:
        again = connection.execute(_REPEATABLE, {"rater": rater, "after": REPEAT_AFTER}).fetchall()
        if again:
            row = rng.choice(again)
            return row["item"], not row["is_swapped"], True
    order = random.Random(f"{seed} {rater}").randrange(1, PRIME)
    values = {"rater": rater, "now": now, "raters": raters, "factor": order}
    is_gold_turn = repeats <= chance < repeats + gold
    for wants_gold in (True, False) if is_gold_turn else (False, True):
        query = _OPEN.format(
            kinds=", ".join(f"'{kind}'" for kind in kinds),
            gold="NOT" if wants_gold else "",
            limit="" if wants_gold else _LIMIT,
            prime=PRIME,
        )
        row = connection.execute(query, values).fetchone()
        if row is not None:
            return row["id"], is_swapped, False
    return None
