"""The browser: WebAssembly engines in Chromium, and the files of theirs that are vendored (`vendored.py`)."""
