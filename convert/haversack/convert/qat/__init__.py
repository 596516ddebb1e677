"""A plan for quantization-aware training: what the user imports beside their own training code.

`for_torch.py` and `for_keras.py` are what is exported, with a table of layers in the place of their empty one; they
import nothing of this package. `names.py` says what the training framework calls a layer of the hub.
"""
