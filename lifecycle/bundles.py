"""Bundles on disk: reads a folder into a `models.bundle.Bundle` and writes one."""

from pathlib import Path

from models.bundle import MANIFEST, Bundle, BundleError, from_files, to_files


def load(folder: Path) -> Bundle:
    """The bundle in `folder`; raises `BundleError` if absent, changed, truncated or foreign."""
    if not (folder / MANIFEST).is_file():
        raise BundleError(f"{folder / MANIFEST}: not found; `dvc repro train` makes a bundle")
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return from_files(files, where=str(folder))


def write(bundle: Bundle, folder: Path) -> None:
    """Writes every file of the bundle below `folder`."""
    write_files(to_files(bundle), folder)


def write_files(files: dict[str, bytes], folder: Path) -> None:
    """Writes relative file name to content below `folder`, which it makes."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
