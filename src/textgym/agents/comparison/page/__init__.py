"""The page of a study: one file that opens anywhere, with its texts side by side."""
