"""People as a source of reward: what they are asked, what they answered, how well they agree."""
