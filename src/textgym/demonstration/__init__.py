"""`textgym demo`: from a corpus to an agent, step by step."""
