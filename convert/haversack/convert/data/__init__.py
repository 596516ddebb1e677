"""DATA: what calibration and evaluation read.

| spec                        | what it is                                                     | module        |
|-----------------------------|----------------------------------------------------------------|---------------|
| `file.npz`                  | arrays named like the model's inputs, optional `label`         | `arrays.py`   |
| a mapping of arrays         | the same, in memory (Python only)                              | `arrays.py`   |
| a folder, `file.zip`        | images, in one folder a class or without classes               | `images.py`   |
| `file.parquet`              | columns named like the model's inputs or images, optional `label` | `parquet.py` |
| `package.module:function`   | a function that yields (inputs, label)                         | `function.py` |
| no data                     | seeded inputs                                                  | `synthetic.py`|
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from haversack.convert.data.arrays import open_mapping, open_npz
from haversack.convert.data.dataset import Dataset
from haversack.convert.data.synthetic import synthetic
from haversack.convert.errors import DataError
from haversack.runtimes.engines import Array, TensorSpec
from haversack.runtimes.preprocess import Preprocess

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def open_data(
    spec: str | Path | Mapping[str, Array], inputs: Sequence[TensorSpec], preprocess: Preprocess | None = None
) -> Dataset:
    """Open data and check, up front, that it fits the model's inputs.

    Args:
        spec: One row of the table above.
        inputs: The model's inputs.
        preprocess: How an image becomes an input; needed for images (a uint8 array of images in an `.npz` too), and
            not applied to values that are inputs already.

    Raises:
        DataError: The data is missing, damaged, of an unknown form, or does not fit the inputs.
    """
    if isinstance(spec, Mapping):
        return open_mapping(spec, inputs, preprocess)
    path = Path(spec)
    if not path.exists() and _FUNCTION.fullmatch(str(spec)):
        from haversack.convert.data.function import open_function

        return open_function(str(spec), inputs)
    if not path.exists():
        raise DataError(f"no such data: {spec}")
    suffix = path.suffix.lower()
    if path.is_dir() or suffix == ".zip":
        from haversack.convert.data.images import open_images

        return open_images(path, inputs, preprocess)
    if not path.is_file():
        raise DataError(f"{path.name}: neither a file nor a folder")
    if suffix == ".npz":
        return open_npz(path, inputs, preprocess)
    if suffix == ".parquet":
        from haversack.convert.data.parquet import open_parquet

        return open_parquet(path, inputs, preprocess)
    raise DataError(
        f"{path.name}: unknown form of data; known are .npz, .zip, .parquet, a folder of images, "
        "package.module:function"
    )


__all__ = ["Dataset", "open_data", "synthetic"]
