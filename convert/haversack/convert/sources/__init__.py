"""The sources: one reader a format, each into a hub graph.

| format       | what                                      | needs the extra |
|--------------|-------------------------------------------|-----------------|
| `onnx`       | `.onnx`, with external data beside it     |                 |
| `tflite`     | `.tflite`, float or quantized             | `tensorflow`    |
| `keras`      | `.keras`                                  | `tensorflow`    |
| `h5`         | `.h5`, `.hdf5` of Keras                   | `tensorflow`    |
| `savedmodel` | a TensorFlow SavedModel folder            | `tensorflow`    |
| `skops`      | `.skops`, a scikit-learn estimator        | `sklearn`       |
"""

from __future__ import annotations

from haversack.convert.sources.read import Source, read

__all__ = ["Source", "read"]
