"""`make demo`: from nothing to a streamed, cited answer on a real cluster."""
