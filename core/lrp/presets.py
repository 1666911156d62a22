"""LRP presets as data: which rule with which constants.

All presets share one layout (paper §3.2: iNNvestigate's ``LRPSequentialPresetAFlat``):

==================  =====================================================================
dense layer         epsilon rule, ``R_i = x_i Σ_j w_ij R_j / (z_j + ε·s(z_j))``, s(0) = +1
convolution         α1β0 rule, ``R_i = Σ_j (x_i⁺w_ij⁺ + x_i⁻w_ij⁻) R_j / d_j`` with
                    ``d_j = Σ_i (x_i⁺w_ij⁺ + x_i⁻w_ij⁻) + bias term``
first layer         flat rule, ``R_i = Σ_j R_j / n_j``, n_j inputs that are not padding
average pool, add   z-rule, ``R_i = z_ij R_j / z_j``
max-pool, flatten   gradient
activation          relevance passes unchanged
==================  =====================================================================

They differ in the bias term and in how a denominator is kept from zero.

References:
    Bach et al., PLoS ONE 10(7), 2015. Kohlbrenner et al., IJCNN 2020. Alber et al., *iNNvestigate
    Neural Networks!*, JMLR 20, 2019. Anders et al., *Zennit*, arXiv:2106.13200.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigError

__all__ = ["ALIASES", "PRESETS", "Preset", "preset_by_name"]


@dataclass(frozen=True, slots=True)
class Preset:
    """Constants of one LRP preset.

    Attributes:
        name: its name.
        epsilon: ε of dense layers, logit units.
        conv_bias: bias term of convolutions, ``signed`` (b_j) or ``positive`` (max(b_j, 0)).
        stabilize: ``zeros`` replaces denominators that are exactly 0 by ``stabilizer``;
            ``all`` moves every denominator away from 0 by it. Not for dense layers.
        stabilizer: see above.
    """

    name: str
    epsilon: float
    conv_bias: Literal["signed", "positive"]
    stabilize: Literal["zeros", "all"]
    stabilizer: float


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("innvestigate_a_flat", 0.1, "signed", "zeros", 1e-7),
        Preset("zennit", 1e-6, "positive", "all", 1e-6),
    )
}
"""Name → preset. ``innvestigate_a_flat`` is what the paper used and the default; ``zennit`` equals
zennit's ``EpsilonPlusFlat`` with its default constants. Their maps differ a lot (relative L1 of
0.3 to 0.75 on small networks), so results name the preset they were made with."""

ALIASES: dict[str, str] = {
    "innvestigate": "innvestigate_a_flat",
    "LRPSequentialPresetAFlat": "innvestigate_a_flat",
    "EpsilonPlusFlat": "zennit",
    "epsilon_plus_flat": "zennit",
}
"""Names under which other toolboxes know a preset → its name here."""


def preset_by_name(name: str) -> Preset:
    """Return a preset.

    Args:
        name: a key of :data:`PRESETS` or :data:`ALIASES`.

    Returns:
        The preset.

    Raises:
        ConfigError: there is none of that name.

    >>> preset_by_name("EpsilonPlusFlat").name
    'zennit'
    """
    try:
        return PRESETS[ALIASES.get(name, name)]
    except KeyError:
        raise ConfigError(
            f"unknown LRP preset {name!r}; use one of {', '.join(sorted(PRESETS))}"
        ) from None
