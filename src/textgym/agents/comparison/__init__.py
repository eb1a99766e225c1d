"""Many runs side by side: the cells of a study, what they wrote, and which is better."""
