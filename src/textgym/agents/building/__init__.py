"""From a word to an agent, and back from its checkpoint."""
