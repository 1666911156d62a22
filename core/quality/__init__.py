"""How good are relevance maps? Measures from the literature, on maps of AUs.

No single figure says that an explanation is right; each rules out one way of being wrong:

- :mod:`.location`: relevance lies where the AU cannot show (mass accuracy, pointing game);
- :mod:`.perturbation`: the logit does not depend on what the map marks (MoRF, LeRF);
- :mod:`.randomisation`: the map does not depend on what was learned (sanity check);
- :mod:`.agreement`: all AUs of a frame get the same map; stages do not differ;
- :mod:`.conservation`: relevance is lost on the way.

:func:`assess` takes them all for a network and a sample of frames.
"""

from __future__ import annotations

from .agreement import AUAgreement, StageAgreement, between_aus, between_stages
from .assess import assess
from .conservation import Conservation, conserve
from .figures import (
    FIGURES,
    AUQuality,
    ExplanationQuality,
    Figure,
    MapSample,
    StoppedError,
    choose_frames,
)
from .location import Localisation, localise, pointing_game
from .perturbation import Perturbation, PerturbationOptions, blur, perturb
from .randomisation import (
    Randomisation,
    cosines,
    randomise,
    rank_correlations,
    weighted_layers,
)

__all__ = [
    "FIGURES",
    "AUAgreement",
    "AUQuality",
    "Conservation",
    "ExplanationQuality",
    "Figure",
    "Localisation",
    "MapSample",
    "Perturbation",
    "PerturbationOptions",
    "Randomisation",
    "StageAgreement",
    "StoppedError",
    "assess",
    "between_aus",
    "between_stages",
    "blur",
    "choose_frames",
    "conserve",
    "cosines",
    "localise",
    "perturb",
    "pointing_game",
    "randomise",
    "rank_correlations",
    "weighted_layers",
]
