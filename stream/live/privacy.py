"""What of a person's picture leaves the machine; the server decides, no page can ask for more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ...core.errors import ConfigError
from ...core.render.veils import blurred, blurred_crop, outlined
from ...core.types import FaceObservation

__all__ = ["LEVELS", "Level", "Privacy"]

Level = Literal["picture", "blur", "outline", "none"]
"""``picture``: as it is. ``blur``: until a face is ten pixels wide. ``outline``: an oval, eyes and
a mouth line where the face is, on a dark ground. ``none``: nothing."""

LEVELS: tuple[str, ...] = get_args(Level)


@dataclass(frozen=True)
class Privacy:
    """What may be sent.

    Attributes:
        level: of pictures, and of the faces behind prototypes.
        names: what a source calls itself → what may be said of it: the base name of a file, whose
            folder may be a patient's name.

    Raises:
        ConfigError: the level is none of :data:`LEVELS`.
    """

    level: Level = "picture"
    names: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise ConfigError(f"--privacy {self.level} is unknown; use {', '.join(LEVELS)}")

    def picture(
        self, image: NDArray[np.uint8], faces: Sequence[FaceObservation]
    ) -> NDArray[np.uint8] | None:
        """Return what may be sent of a picture; None: nothing.

        Args:
            image: ``(H, W, 3)`` uint8 BGR, or ``(H, W)`` grey.
            faces: those found in it.
        """
        if self.level == "picture":
            return image
        if self.level == "blur":
            return blurred(image, faces)
        if self.level == "outline":
            return outlined(image.shape[0], image.shape[1], faces)
        return None

    def crop(self, crop: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        """Return what may be sent of a face crop, ``(S, S)`` uint8; None: nothing."""
        if crop is None or self.level == "picture":
            return crop
        return blurred_crop(crop) if self.level == "blur" else None

    def text(self, sentence: str) -> str:
        """Return a sentence about a source without the folders in its name."""
        for name, shown in self.names.items():
            sentence = sentence.replace(name, shown)
        return sentence
