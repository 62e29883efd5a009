"""Documents: split, embedded, written, switched."""
