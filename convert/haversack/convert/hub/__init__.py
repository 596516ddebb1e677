"""The hub: one ONNX graph, at one pinned opset, that every source is read into and every target is lowered from."""

OPSET = 21
"""The pinned opset of the default domain: the first with int4 and blocked DequantizeLinear, and one that
onnxruntime 1.20 and later already run, so that an artifact does not demand the newest runtime."""

IR_VERSION = 10
"""The ONNX IR version that goes with opset 21."""
