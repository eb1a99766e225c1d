"""`textgym audit-reward`: what a reward model pays for, before anything is trained on it."""
