"""Text variational autoencoders: a text as a point of a small continuous space, and back."""
