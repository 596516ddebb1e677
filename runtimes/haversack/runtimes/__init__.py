"""The offline runtime: loads a bundle or an artifact and runs it, with NumPy and one engine."""
