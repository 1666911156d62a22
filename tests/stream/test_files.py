"""Files: written whole or not at all (checkpoints test the disk that fails)."""

from __future__ import annotations

from pathlib import Path

import pytest
from facestage.core.errors import ModelError
from facestage.stream.files import write_file


@pytest.mark.parametrize("name", ["", "."])
def test_a_folder_is_no_file_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for target in (Path(name), tmp_path):
        with pytest.raises(ModelError, match="it is a folder; name a file in it"):
            write_file(target, b"x")
    assert not list(tmp_path.iterdir())
