"""What measures the numbers that the README states: `make bench NAME=...`.

Each prints, as its last line, one JSON object, and exits non-zero when it could not measure.
"""
