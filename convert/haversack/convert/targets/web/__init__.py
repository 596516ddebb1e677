"""The browser: a folder that runs a model offline, with ONNX Runtime's WebAssembly build in it."""
