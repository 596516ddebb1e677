"""The dashboard: compares the variants of a bundle by size, accuracy and latency."""
