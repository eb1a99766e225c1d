"""Where texts are played and kept: vector environment, buffers, episodes, the KL term."""
