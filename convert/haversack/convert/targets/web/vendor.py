"""Fetch the vendored files of `haversack.runtimes.engines.browser.vendored`: `npm pack`, check, add the licence.

    python -m haversack.convert.targets.web.vendor              every package that is not here yet
    python -m haversack.convert.targets.web.vendor --if-possible    the same; without npm one line says so, and exit 0

npm knows where packages are from its own configuration. A package's folder appears whole, by rename, or not at all.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from haversack.runtimes.engines.browser.vendored import LICENCE, PACKAGES, VENDOR, Package, problems
from haversack.runtimes.errors import HaversackError

LICENCES = Path(__file__).resolve().with_name("licences")
SECONDS = 600
"""How long npm may take for one package."""


class VendorError(HaversackError):
    """The files cannot be fetched, or are not those of the table."""


def fetch(package: Package, root: Path = VENDOR, npm: str | None = None) -> None:
    """Put one package's files, checked, and its licence into `root/<name>`.

    Args:
        package: Which, and with which checksums.
        root: The folder that holds the packages' folders.
        npm: The program; by default the one on the path.

    Raises:
        VendorError: There is no npm, it fails, or a file is not what the table says; what was there before stays.
    """
    program = npm or shutil.which("npm")
    if program is None:
        raise VendorError(f"{package.name} {package.version} cannot be fetched: there is no npm on this machine")
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Beside its place, so that the last step is a rename.
        with tempfile.TemporaryDirectory(dir=root, prefix=".fetching-") as private:
            archive = _packed(package, program, Path(private))
            made = Path(private) / "made"
            made.mkdir()
            _unpack(package, archive, made)
            (made / LICENCE).write_text(licence(package), encoding="utf-8")
            if wrong := problems(package, made):
                raise VendorError(f"{package.name} {package.version} is not what was vendored: {'; '.join(wrong)}")
            where = root / package.name
            where.parent.mkdir(parents=True, exist_ok=True)  # a scope is a folder
            if where.exists():
                where.rename(Path(private) / "before")
            made.rename(where)
    except OSError as error:
        raise VendorError(f"{package.name}: {root} cannot be written: {error.strerror}") from None


def licence(package: Package) -> str:
    """The text of a package's licence, with its copyright line."""
    return (LICENCES / f"{package.licence}.txt").read_text(encoding="utf-8").format(copyright=package.copyright)


def _packed(package: Package, npm: str, folder: Path) -> Path:
    """The archive that `npm pack` fetches."""
    asked = [npm, "pack", f"{package.name}@{package.version}", "--silent", "--ignore-scripts"]
    try:
        done = subprocess.run(asked, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise VendorError(f"{package.name} {package.version}: npm took more than {SECONDS} s") from None
    archives = list(folder.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        said = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        reason = said[0] if said else f"it ended with {done.returncode} and no word"
        raise VendorError(f"{package.name} {package.version}: npm pack failed: {reason}")
    return archives[0]


def _unpack(package: Package, archive: Path, folder: Path) -> None:
    """Take the table's files out of the archive."""
    with tarfile.open(archive) as tar:
        for file in package.files:
            try:
                content = tar.extractfile(f"package/{file.source}")
            except KeyError:
                content = None
            if content is None:
                raise VendorError(f"{package.name} {package.version} holds no file {file.source}")
            with (folder / file.name).open("wb") as out:
                shutil.copyfileobj(content, out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch what is not here; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m haversack.convert.targets.web.vendor",
        description="Fetch the files that run models in a browser, with npm, and check them.",
    )
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=f"by default all: {', '.join(PACKAGES)}")
    parser.add_argument("--if-possible", action="store_true", help="where they cannot be fetched, say so and exit 0")
    parser.add_argument("--into", type=Path, default=VENDOR, metavar="DIR", help="by default where they are looked for")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.packages if name not in PACKAGES]:
        parser.error(f"unknown package {unknown[0]}; known are {', '.join(PACKAGES)}")
    for name in asked.packages or PACKAGES:
        package = PACKAGES[name]
        if not problems(package, asked.into / name):
            continue
        try:
            fetch(package, asked.into)
        except VendorError as error:
            print(f"{error}; nothing will run in a browser" if asked.if_possible else error, file=sys.stderr)
            if not asked.if_possible:
                return error.exit_code
        else:
            print(f"{name} {package.version}: {package.bytes:,} bytes, checksums verified, {package.licence}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
