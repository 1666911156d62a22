"""What all readers of data sets need: folders checked, files read, and words for messages."""

from __future__ import annotations

from pathlib import Path

from ...core.errors import SourceError

__all__ = ["contents", "expanded", "label_lines", "layout_folder", "unpacked"]


def expanded(text: Path | str) -> Path:
    """Resolve a leading ``~``; where it names nobody it is part of a file's name."""
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def layout_folder(folder: Path | str, parts: tuple[str, ...], name: str) -> Path:
    """Return the folder of a data set, checked to hold the parts it needs, see :func:`unpacked`.

    Raises:
        SourceError: one is missing; the message says which, and what is there instead.
    """
    root = Path(folder).expanduser()
    for part in parts:
        if not unpacked(root, part).is_dir():
            raise SourceError(
                f"{root} is not the {name} folder: there is no {part!r} in it; it needs "
                f"{' and '.join(parts)} (found: {contents(root)})"
            )
    return root


def unpacked(root: Path, part: str) -> Path:
    """Return where a part of a data set lies: in its folder, or one level deeper.

    Whoever unpacks each archive of CK+ into a folder of its own gets ``Emotion_labels/Emotion``.
    Of several the first by name counts; where there is none, the place it should have.
    """
    if (root / part).is_dir():
        return root / part
    deeper = sorted(root.glob(f"*/{part}")) if root.is_dir() else []
    found = [folder for folder in deeper if folder.is_dir() and folder.parent.name[0] != "."]
    return found[0] if found else root / part


def contents(folder: Path, most: int = 5) -> str:
    """Say in a few words what a folder holds, for messages."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        return error.strerror or str(error)
    more = f", … ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more or "nothing"


def label_lines(file: Path) -> list[tuple[int, str]]:
    """Return the lines of a label file that hold something, with their numbers."""
    try:
        text = file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{file} cannot be read ({error}); copy it again") from error
    return [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
