"""The command `textgym`: flags, verbs and what they print."""
