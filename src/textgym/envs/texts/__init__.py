"""Where texts come from: prompts, corpora, rows of files, preparation."""
