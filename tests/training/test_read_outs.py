"""Layouts of hidden units, and where features look."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from facestage.core.face.regions import au_regions
from facestage.core.network.architectures import (
    FIRST_LAYOUT,
    LAYOUTS,
    SECOND_LAYOUT,
    AUNet96,
    au_net,
)
from facestage.core.network.au_network import EMBEDDED

from training.augment.canvas import SIZE
from training.data.generator import RenderedBatch
from training.face.facs import AUS
from training.fit import train
from training.fit.gates import enrichment
from training.fit.widen import new_aus, widened


def seeded(layout: object, seed: int = 1) -> AUNet96:
    torch.manual_seed(seed)
    return au_net(AUS, layout=layout).eval()  # type: ignore[arg-type]


def points() -> np.ndarray:
    """Place 68 landmarks roughly as on an upright crop of 96 px."""
    found = np.zeros((68, 2), np.float32)
    found[:17] = np.stack([np.linspace(14, 82, 17), 90 - 50 * np.linspace(-1, 1, 17) ** 2], 1)
    for first, x in ((17, 22), (22, 52)):
        found[first : first + 5] = [[x + 5 * k, 26 - 2 * (k in (1, 2, 3))] for k in range(5)]
    found[27:36] = [[48, 34 + 4 * k] for k in range(4)] + [[42 + 3 * k, 52] for k in range(5)]
    for first, x in ((36, 26), (42, 56)):
        around = [(0, 0), (4, -2), (9, -2), (13, 0), (9, 2), (4, 2)]
        found[first : first + 6] = [[x + dx, 36 + dy] for dx, dy in around]
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    found[48:60] = np.stack([48 + 13 * np.cos(turn), 68 + 5 * np.sin(turn)], 1)
    turn = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    found[60:68] = np.stack([48 + 9 * np.cos(turn), 68 + 1 * np.sin(turn)], 1)
    return found


def test_each_layout_reads_every_au_from_zones_it_has() -> None:
    for name, layout in LAYOUTS.items():
        for au in (*AUS, 45, 11, 99):
            zones = layout.zones_of(au)
            assert zones, (name, au)
            assert set(zones) <= set(layout.zones), (name, au)
        assert layout.zones_of(99) == tuple(layout.zones)
    brows = {SECOND_LAYOUT.zones_of(au) for au in (1, 2, 4)}
    assert len(brows) == 3  # each can be trained without the others
    net = seeded(SECOND_LAYOUT)
    row = net.presence.reads[AUS.index(2)].bool()
    cells = net.hidden.reads[row].bool().any(0).reshape(net.reduced, 6, 6).any(0)
    assert cells[:2].all()
    assert not cells[2:].any()


def test_a_wider_layout_keeps_what_it_does_not_read_anew() -> None:
    old = seeded(FIRST_LAYOUT)
    new = widened(old)
    anew = new_aus(old)
    assert set(anew) == {1, 2, 4, 5, 14, 15, 16, 20, 22, 23, 24, 26}
    crops = torch.randn((5, 1, 96, 96), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        before, after = old(crops), new(crops)
    kept = [k for k, au in enumerate(AUS) if au not in anew]
    for a, b in zip(before[:2], after[:2], strict=True):
        torch.testing.assert_close(a[:, kept], b[:, kept], atol=1e-6, rtol=1e-5)
    assert torch.equal(before[2], after[2])
    assert widened(new) is new
    again = widened(old)
    assert all(torch.equal(v, new.state_dict()[k]) for k, v in again.state_dict().items())


def test_the_embedded_weights_have_the_newest_layout() -> None:
    assert train.card_of("embedded")["architecture"] == "au_net_96_zoned_2"
    net = train.stored_network(str(EMBEDDED))
    assert net.layout == SECOND_LAYOUT
    assert new_aus(net) == ()


def test_a_feature_is_enriched_where_it_looks() -> None:
    """Features of the first row of cells look above the mouth, those of the last at it."""
    net = seeded(SECOND_LAYOUT, 3)
    rng = np.random.default_rng(1)
    scale = (SIZE - 8) / 96
    portraits = RenderedBatch(
        image=rng.integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8),
        intensity=np.zeros((3, len(AUS)), np.float32),
        landmarks=np.repeat(points()[None] * scale, 3, axis=0),
        identity=np.arange(3),
        index=np.arange(3),
    )
    assert au_regions(points(), [1, 25], 96).any(axis=(1, 2)).all()
    found = enrichment(net, portraits, [1, 25], pictures=2).reshape(net.reduced, 6, 6, 2)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    top, bottom = found[:, 0].mean((0, 1)), found[:, 5].mean((0, 1))
    assert top[0] > 2 * bottom[0]
    assert bottom[1] > 2 * top[1]
    once = enrichment(net, portraits, [1, 25], pictures=2).reshape(net.reduced, 6, 6, 2)
    np.testing.assert_array_equal(found, once)


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_the_masks_of_a_layout_close_what_is_not_read(name: str) -> None:
    net = seeded(LAYOUTS[name])
    plain = net.hidden.plain()
    assert not plain.weight[~net.hidden.reads.bool()].any()
    assert (net.presence.reads.sum(1) > 0).all()
