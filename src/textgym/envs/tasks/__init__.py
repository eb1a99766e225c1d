"""The built-in tasks, a file a family."""
