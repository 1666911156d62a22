"""Give weights of an earlier layout of hidden units the newest one.

Zones that both layouts have keep their units, their weights and what each AU reads of them, bit by
bit. Units of a new zone, and the outputs of the AUs that read it, start as random numbers: they say
nothing until `training.fit.heads` has trained them.
"""

from __future__ import annotations

import torch
from facestage.core.network.architectures import SECOND_LAYOUT, AUNet96, Layout, au_net

__all__ = ["new_aus", "widened"]


def new_aus(net: AUNet96, layout: Layout = SECOND_LAYOUT) -> tuple[int, ...]:
    """Return the AUs of a network that a layout reads from other zones than the network does."""
    return tuple(au for au in net.aus if set(layout.zones_of(au)) != set(net.layout.zones_of(au)))


@torch.no_grad()
def widened(net: AUNet96, layout: Layout = SECOND_LAYOUT, seed: int = 0) -> AUNet96:
    """Build the same network with another layout of hidden units.

    Args:
        net: the network.
        layout: that it shall have.
        seed: of the units and outputs that are new.

    Returns:
        A network in eval mode; ``net`` itself if it has the layout.
    """
    if net.layout == layout:
        return net.eval()
    landmarks = net.landmarks.out_features // 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wide = au_net(net.aus, landmarks, layout)
    wide.features.load_state_dict(net.features.state_dict())
    wide.landmarks.load_state_dict(net.landmarks.state_dict())
    old_units, units = net.layout.units(), layout.units()
    same = [name for name in units if net.layout.zones.get(name) == layout.zones[name]]
    for name in same:
        wide.hidden.weight[units[name]] = net.hidden.weight[old_units[name]]
        wide.hidden.bias[units[name]] = net.hidden.bias[old_units[name]]
    changed = new_aus(net, layout)
    rows = torch.tensor([k for k, au in enumerate(net.aus) if au not in changed])
    for head in ("presence", "intensity"):
        old, new = getattr(net, head), getattr(wide, head)
        new.bias[rows] = old.bias[rows]
        new.weight[rows] = 0.0
        for name in same:
            new.weight[rows, units[name]] = (old.weight * old.reads)[rows, old_units[name]]
    return wide.eval()
