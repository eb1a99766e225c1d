"""Next-token training: from documents to batches, and the loop."""
