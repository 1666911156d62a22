"""The maps that are drawn, where other maps give letters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .. import lrp
from ..config import ExplainConfig
from ..errors import ModelError
from ..network.au_network import AUNetwork
from .draft import Draft

__all__ = ["PictureMaker"]


class PictureMaker:
    """Give frames the maps that are drawn.

    Args:
        network: the AU network.
        explain: which LRP presets, and how often.
        dtype: of the way back, see :func:`~facestage.core.lrp.explain`.

    Raises:
        ConfigError: no LRP preset has that name.
    """

    def __init__(self, network: AUNetwork, explain: ExplainConfig, dtype: lrp.Reduced) -> None:
        self._network, self._explain = network, explain
        self._dtype: lrp.Reduced = dtype
        if explain.draws_apart:
            lrp.lrp_preset(explain.picture_preset)

    def warm_up(self) -> None:
        """Prepare the network for the preset, so that the first face need not wait."""
        if self._explain.draws_apart:
            size = self._network.card.input_size
            self._maps(np.zeros((1, size, size), np.uint8), [(0, 0)])

    def draw(self, drafts: Sequence[Draft]) -> None:
        """Give frames their pictures; frames of one face in order, with what gives their letters.

        Raises:
            ModelError: a map is not finite.
        """
        if not self._explain.draws_apart:
            for draft in drafts:
                draft.pictures = draft.maps
            return
        due = []
        for draft in drafts:
            pictures = draft.memory.pictures
            if draft.new_face:
                pictures.forget()
            if pictures.due(draft.descriptors, self._explain):
                due.append(draft)
        crops = [draft.face.crop for draft in due if draft.face.crop is not None]
        pairs = [(row, output) for row, draft in enumerate(due) for output in draft.active]
        maps = iter(self._maps(np.array(crops), pairs) if pairs else ())
        made = {id(draft) for draft in due}
        for draft in drafts:
            if id(draft) in made:
                aus = [self._network.card.aus[output] for output in draft.active]
                draft.memory.pictures.keep({au: next(maps) for au in aus})
            draft.pictures = draft.memory.pictures.of(list(draft.maps))

    def _maps(self, crops: NDArray[np.uint8], pairs: list[tuple[int, int]]) -> NDArray[np.float32]:
        """Return the maps ``(P, S, S)`` of (crop, output) pairs."""
        maps = lrp.explain(
            self._network.logits_module,
            self._network.prepare(crops),
            pairs,
            preset=self._explain.picture_preset,
            dtype=self._dtype,
            check=False,
        )
        if not math.isfinite(float(maps.sum())):
            raise ModelError(
                f"{self._network.name} gave relevance that is not finite under the preset "
                f"{self._explain.picture_preset}; check its weights, or draw by another preset"
            )
        return maps.cpu().numpy()
