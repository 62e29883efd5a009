"""Finding the chunks that a question needs."""
