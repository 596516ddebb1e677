"""The workshop: reads a trained model, compresses it, lowers it to every target and verifies what it wrote."""
