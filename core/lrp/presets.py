"""LRP presets as data: which rule with which constants.

All presets share one layout (paper §3.2: iNNvestigate's ``LRPSequentialPresetAFlat``):

==================  =====================================================================
dense layer         epsilon rule, ``R_i = x_i Σ_j w_ij R_j / (z_j + ε·s(z_j))``, s(0) = +1
convolution         a :class:`ConvolutionRule`, by how deep the layer lies
first layer         flat rule, ``R_i = Σ_j R_j / n_j``, n_j inputs that are not padding
average pool, add   z-rule, ``R_i = z_ij R_j / z_j``
max-pool, flatten   gradient
activation          relevance passes unchanged
==================  =====================================================================

Rules of convolutions:

==================  =====================================================================
alpha1_beta0        positive contributions only, ``R_i = Σ_j (x_i⁺w_ij⁺ + x_i⁻w_ij⁻) R_j / d_j``
                    with ``d_j = Σ_i (x_i⁺w_ij⁺ + x_i⁻w_ij⁻) + bias term``
gamma               weights modified by γ (zennit's ``GammaMod``): ``w + γw⁺`` for ``x⁺`` and
                    ``w + γw⁻`` for ``x⁻`` where z_j > 0, the other way round where z_j < 0
epsilon             as for dense layers
==================  =====================================================================

The presets of the paper and of zennit use α1β0 throughout. They differ in the bias term and in how
a denominator is kept from zero.

References:
    Bach et al., PLoS ONE 10(7), 2015. Kohlbrenner et al., IJCNN 2020. Montavon et al., *Layer-wise
    Relevance Propagation: An Overview*, 2019. Sixt et al., *When Explanations Lie*, ICML 2020.
    Alber et al., *iNNvestigate Neural Networks!*, JMLR 20, 2019. Anders et al., *Zennit*,
    arXiv:2106.13200. Gu et al., *Understanding Individual Decisions of CNNs via Contrastive
    Backpropagation*, ACCV 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..config import DEFAULT_LRP_PRESET
from ..errors import ConfigError

__all__ = ["ALIASES", "LRP_PRESETS", "ConvolutionRule", "Preset", "lrp_preset"]


@dataclass(frozen=True, slots=True)
class ConvolutionRule:
    """Rule of the convolutions up to a depth.

    Attributes:
        kind: see the module.
        until: the depth, as a share of all convolutions but the first layer, counted from the input
            in running order, 0–1.
        value: γ or ε.
    """

    kind: Literal["alpha1_beta0", "gamma", "epsilon"] = "alpha1_beta0"
    until: float = 1.0
    value: float = 0.0


@dataclass(frozen=True, slots=True)
class Preset:
    """Constants of one LRP preset.

    Attributes:
        name: its name.
        epsilon: ε of dense layers, logit units.
        conv_bias: bias term of α1β0, ``signed`` (b_j) or ``positive`` (max(b_j, 0)).
        stabilize: ``zeros`` replaces denominators that are exactly 0 by ``stabilizer``;
            ``all`` moves every denominator away from 0 by it. Not for the epsilon rule.
        stabilizer: see above.
        convolutions: rules of convolutions, from the input up.
        head: what relevance starts from and how the last dense layer shares it. ``epsilon``: the
            logit, by the epsilon rule. ``positive``: what speaks for the output,
            ``Σ_i (x_i w_ij)⁺`` without the bias, each input its own part; so a map is of evidence
            for an Action Unit whether or not its logit is above 0.
        contrast: whether relevance starts from the logit minus the mean of all other logits, each
            times its own weight in that difference, instead of from the logit.
    """

    name: str
    epsilon: float
    conv_bias: Literal["signed", "positive"]
    stabilize: Literal["zeros", "all"]
    stabilizer: float
    convolutions: tuple[ConvolutionRule, ...] = (ConvolutionRule(),)
    head: Literal["epsilon", "positive"] = "epsilon"
    contrast: bool = False

    def convolution(self, number: int, count: int) -> ConvolutionRule:
        """Return the rule of a convolution.

        Args:
            number: of the convolution, from 0, in running order; the first layer left out.
            count: number of convolutions without the first layer.
        """
        depth = (number + 1) / count
        return next((r for r in self.convolutions if depth <= r.until), self.convolutions[-1])


_MILD_GAMMA = ConvolutionRule("gamma", value=0.1)

LRP_PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(DEFAULT_LRP_PRESET, 0.1, "signed", "zeros", 1e-7),
        Preset("zennit", 1e-6, "positive", "all", 1e-6),
        Preset("au_specific", 0.1, "signed", "all", 1e-6, (_MILD_GAMMA,)),
        Preset("au_evidence", 0.1, "signed", "all", 1e-6, (_MILD_GAMMA,), "positive"),
    )
}
"""Name → preset. ``innvestigate_a_flat`` is what the paper used and the default; ``zennit`` equals
zennit's ``EpsilonPlusFlat`` with its default constants. Their maps differ a lot (relative L1 of
0.3 to 0.75 on small networks), so results name the preset they were made with. ``au_specific``
answers "why this Action Unit" better: α1β0 forgets in the convolutions which output it started from
(Sixt et al.), a small γ keeps negative weights in play, so that what speaks against the Action Unit
takes relevance away. ``au_evidence`` adds a start from what speaks for the Action Unit instead of
from the logit, for Action Units that count as active at a logit below 0, whose maps are mostly
negative otherwise. docs/explanations.md has the figures they were chosen by."""

ALIASES: dict[str, str] = {
    "innvestigate": DEFAULT_LRP_PRESET,
    "zennit_epsilon_plus_flat": "zennit",
    "LRPSequentialPresetAFlat": DEFAULT_LRP_PRESET,
    "EpsilonPlusFlat": "zennit",
    "epsilon_plus_flat": "zennit",
}
"""Names under which other toolboxes know a preset → its name here."""


def lrp_preset(name: str) -> Preset:
    """Return a preset.

    Args:
        name: a key of :data:`LRP_PRESETS` or :data:`ALIASES`.

    Returns:
        The preset.

    Raises:
        ConfigError: no preset has that name.

    >>> lrp_preset("EpsilonPlusFlat").name
    'zennit'
    """
    try:
        return LRP_PRESETS[ALIASES.get(name, name)]
    except KeyError:
        raise ConfigError(
            f"unknown LRP preset {name!r}; use one of {', '.join(sorted(LRP_PRESETS))}"
        ) from None
