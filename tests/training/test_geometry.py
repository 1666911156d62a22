"""The face generator: same seed same face, labels that follow the geometry, shards that survive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from facestage.core.errors import ConfigError, SourceError
from facestage.core.face.alignment import similarity

from training.data.clips import render_clip, write_clip
from training.data.generator import PER_IDENTITY, Generator, RenderedBatch
from training.data.shards import is_complete, read_shard, shard_path, write_shard, write_shards
from training.face.expressions import KINDS, only, sample_anatomy, sample_expression
from training.face.facekit import FaceKit, load_facekit
from training.face.facs import AU_INDEX, AUS, Anatomy, Expression, FaceShapes
from training.face.visibility import measure_visibility
from training.render.appearance import Appearance
from training.render.gbuffer import IRIS, LASHES, SCLERA, SKIN, GBuffer, draw_gbuffer
from training.render.lashes import lash_cover
from training.render.raster import (
    interpolate,
    rasterise,
    rasterise_torch,
    vertex_normals,
    vertex_normals_torch,
)
from training.render.scene import (
    CANVAS,
    TEMPLATE,
    TEMPLATE_WEIGHTS,
    Pose,
    View,
    five_points,
    sample_pose,
    view,
)

pytestmark = [pytest.mark.shared, pytest.mark.xdist_group("training")]


@pytest.fixture(scope="module")
def kit(shared: Path) -> FaceKit:
    return load_facekit(shared / "facekit" / "ict_facekit_compact.npz")


@pytest.fixture(scope="module")
def shapes(kit: FaceKit) -> FaceShapes:
    return FaceShapes(kit)


@pytest.fixture(scope="module")
def generator(kit: FaceKit) -> Generator:
    return Generator(11, kit)


@pytest.fixture(scope="module")
def batch(generator: Generator) -> RenderedBatch:
    return generator.render(range(8))


@pytest.fixture(scope="module")
def faces(kit: FaceKit, shapes: FaceShapes) -> View:
    rng = np.random.default_rng(3)
    weights = np.stack(
        [shapes.shape(sample_expression(rng), sample_anatomy(rng)).weights for _ in range(3)]
    ).astype(np.float32)
    moved = (weights @ shapes.basis.reshape(len(shapes.basis), -1)).reshape(3, -1, 3)
    poses = [sample_pose(rng) for _ in range(3)]
    return view(torch.from_numpy(kit.generic + moved), poses, kit.landmarks)


def at_rest(seed: int = 0, **rest: float) -> Anatomy:
    anatomy = sample_anatomy(np.random.default_rng(seed))
    return replace(anatomy, rest=rest, lip_gap=-0.08)  # lips that meet


def label(shapes: FaceShapes, expression: Expression, anatomy: Anatomy, au: int) -> float:
    return float(shapes.shape(expression, anatomy).intensity[AU_INDEX[au]])


def test_missing_model_names_the_file_and_the_source(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.npz.*ICT-FaceKit.*FACESTAGE_SHARED"):
        load_facekit(tmp_path / "nothing.npz")


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ConfigError, match="not the compact"):
        load_facekit(tmp_path / "other.npz")


def test_left_shapes_move_the_side_of_positive_x(kit: FaceKit) -> None:
    moved = np.abs(kit.expressions[kit.shape("browDown_L")]).sum(1)
    assert (moved * kit.generic[:, 0]).sum() > 0


def test_hidden_corners_see_less_sky_than_the_forehead(kit: FaceKit) -> None:
    assert kit.occlusion.min() >= 0
    assert kit.occlusion.max() <= 1
    inside_mouth, nose_tip = kit.occlusion[kit.vertex_region == 2], kit.occlusion[kit.landmarks[30]]
    assert np.median(inside_mouth) < 0.2 < 0.9 < nose_tip


def test_both_rasterisers_see_the_same_triangles(kit: FaceKit, faces: View) -> None:
    compiled = rasterise(faces.screen, kit.triangles, kit.opaque_count, CANVAS)
    triangles = torch.from_numpy(kit.triangles).long()
    plain = rasterise_torch(faces.screen, triangles, kit.opaque_count, CANVAS)
    same = compiled.triangle == plain.triangle
    assert same.float().mean() > 0.999
    assert (compiled.overlay == plain.overlay).float().mean() > 0.999
    assert (compiled.triangle >= 0).any()
    difference = (compiled.barycentric - plain.barycentric)[same].abs()
    # Slivers seen from the side amplify rounding.
    assert difference.quantile(0.999) < 1e-3


def test_both_normals_agree_and_point_outwards(kit: FaceKit, faces: View) -> None:
    compiled = vertex_normals(faces.vertices, kit.triangles, kit.opaque_count)
    plain = vertex_normals_torch(
        faces.vertices, torch.from_numpy(kit.triangles).long(), kit.opaque_count
    )
    assert torch.allclose(compiled, plain, atol=1e-3)
    tip = compiled[0, kit.landmarks[30]]
    assert tip @ faces.head[0] @ torch.tensor([0.0, 0.0, 1.0]) > 0.8


def test_interpolation_returns_the_attribute_at_the_pixel(kit: FaceKit, faces: View) -> None:
    fragments = rasterise(faces.screen, kit.triangles, kit.opaque_count, CANVAS)
    nothing = np.zeros((len(kit.generic), 0), np.float32)
    values = interpolate(fragments, kit.triangles, nothing, faces.screen)
    rows, columns = torch.meshgrid(torch.arange(CANVAS), torch.arange(CANVAS), indexing="ij")
    seen = fragments.triangle[1] >= 0
    assert torch.allclose(values[1, ..., 0][seen], columns[seen].float(), atol=0.02)
    assert torch.allclose(values[1, ..., 1][seen], rows[seen].float(), atol=0.02)


def test_gbuffer_puts_regions_where_they_belong(kit: FaceKit, faces: View) -> None:
    gbuffer = draw_gbuffer(kit, faces)
    x, y = gbuffer.landmarks[0, 30].round().long().tolist()
    assert gbuffer.region[0, y, x] == SKIN
    assert torch.equal(gbuffer.covered, gbuffer.region >= 0)
    length = gbuffer.normal[gbuffer.covered].norm(dim=-1)
    assert torch.allclose(length, torch.ones_like(length), atol=1e-4)
    assert set(gbuffer.overlay.unique().tolist()) <= {-1, LASHES, LASHES + 1}


def test_a_larger_canvas_shows_the_same_area(kit: FaceKit, faces: View) -> None:
    small, large = draw_gbuffer(kit, faces), draw_gbuffer(kit, faces, side=2 * CANVAS)
    # A pixel of the small canvas covers pixels 2x and 2x + 1 of the large one.
    assert torch.allclose(large.landmarks, 2 * small.landmarks + 0.5, atol=1e-3)
    shrunk = large.covered.float().view(3, CANVAS, 2, CANVAS, 2).mean((2, 4))
    assert (shrunk - small.covered.float()).abs().mean() < 0.01


def test_exact_points_land_on_the_template(faces: View) -> None:
    points = five_points(faces.landmarks).numpy()
    for five in points:
        matrix = similarity(five, TEMPLATE, TEMPLATE_WEIGHTS)
        # Already aligned: fitting again changes nothing.
        moved = five @ matrix[:, :2].T + matrix[:, 2]
        assert np.abs(moved - five).max() < 0.5


def test_template_is_met_on_average_over_people(kit: FaceKit, shapes: FaceShapes) -> None:
    rng = np.random.default_rng(0)
    weights = np.stack(
        [shapes.shape(only(1, 0), sample_anatomy(rng)).weights for _ in range(24)]
    ).astype(np.float32)
    flat = shapes.basis[:, kit.landmarks].reshape(len(shapes.basis), -1)
    points = kit.generic[kit.landmarks] + (weights @ flat).reshape(24, 68, 3)
    seen = view(torch.from_numpy(points), [Pose(0, 0, 0, 90)] * 24, np.arange(68))
    mean = five_points(seen.landmarks).mean(0).numpy()
    # The generic nose is a little shorter than the template's; nothing is off by a feature.
    assert np.abs(mean - TEMPLATE).max() < 4


def test_same_seed_and_index_give_the_same_face(kit: FaceKit, batch: RenderedBatch) -> None:
    again = Generator(11, kit).render(range(8))
    for name in ("image", "intensity", "landmarks", "identity", "index"):
        assert np.array_equal(getattr(again, name), getattr(batch, name))
    other = Generator(12, kit).render([0])
    assert np.abs(other.image[0].astype(int) - batch.image[0]).mean() > 2


def test_a_face_does_not_depend_on_its_batch(generator: Generator, batch: RenderedBatch) -> None:
    for chosen in ([5], [7, 900, 2, 5]):
        other = generator.render(chosen)
        row = chosen.index(5)
        difference = np.abs(other.image[row].astype(int) - batch.image[5])
        # Rounding may move a few pixels where a triangle's edge meets a pixel's centre.
        assert (difference > 1).mean() < 1e-3
        assert np.allclose(other.intensity[row], batch.intensity[5], atol=1e-4)
        assert np.allclose(other.landmarks[row], batch.landmarks[5], atol=1e-3)


def test_four_faces_share_a_person_and_not_the_expression(
    generator: Generator, batch: RenderedBatch
) -> None:
    assert batch.identity.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    people = [generator.face(i) for i in range(8)]
    assert np.array_equal(people[0].anatomy.identity, people[3].anatomy.identity)
    assert people[0].appearance == people[3].appearance
    assert not np.array_equal(people[3].anatomy.identity, people[4].anatomy.identity)
    assert people[0].pose != people[1].pose
    assert not np.array_equal(people[0].expression.left, people[1].expression.left) or (
        people[0].expression.gaze != people[1].expression.gaze
    )


def test_pictures_show_a_face_with_contrast(batch: RenderedBatch) -> None:
    assert batch.image.shape == (8, CANVAS, CANVAS)
    assert batch.image.dtype == np.uint8
    assert (batch.image[:, 40:110, 40:100].std((1, 2)) > 3).all()
    assert (batch.intensity >= 0).all()
    assert (batch.intensity <= 5).all()


@pytest.mark.parametrize("seed", range(4))
def test_parted_lips_are_labelled_by_their_gap(shapes: FaceShapes, seed: int) -> None:
    anatomy = at_rest(seed)
    asked = [0, 1, 2, 3, 4, 5]
    got = [label(shapes, only(25, i), anatomy, 25) for i in asked]
    assert got == sorted(got)
    assert got[0] < 1
    assert got[-1] > 3
    assert label(shapes, only(26, 4), anatomy, 25) > 4, "a dropped jaw parts the lips"
    closed = replace(only(26, 3), closing=1.0)
    assert label(shapes, closed, anatomy, 25) < 1
    assert label(shapes, closed, anatomy, 26) == pytest.approx(3, abs=0.1)


def test_lips_parted_at_rest_are_parted_lips(shapes: FaceShapes) -> None:
    closed, parted = at_rest(1), at_rest(1, jawOpen=0.12)
    assert label(shapes, only(1, 0), parted, 25) > label(shapes, only(1, 0), closed, 25) + 1


@pytest.mark.parametrize("seed", range(4))
def test_closed_eyes_are_labelled_by_their_aperture(shapes: FaceShapes, seed: int) -> None:
    anatomy = at_rest(seed)
    got = [label(shapes, only(43, i), anatomy, 43) for i in range(6)]
    assert got == sorted(got)
    assert got[0] == 0
    assert got[5] == 5


def test_looking_down_and_squinting_are_not_closed_eyes(shapes: FaceShapes) -> None:
    down = replace(only(1, 0), gaze=(0.0, -1.0))
    for seed in range(4):
        anatomy = at_rest(seed, eyeBlink_L=0.2, eyeBlink_R=0.2)
        assert label(shapes, down, anatomy, 43) == 0
        assert label(shapes, only(7, 5), anatomy, 43) == 0


def test_lids_never_cross(kit: FaceKit, shapes: FaceShapes) -> None:
    values = np.zeros(len(AUS))
    for au in (6, 7, 43):
        values[AU_INDEX[au]] = 5
    squeezed = Expression(values, values.copy(), gaze=(0.0, -1.0))
    for seed in range(6):
        anatomy = sample_anatomy(np.random.default_rng(seed))
        weights = shapes.shape(squeezed, anatomy).weights
        points = kit.generic[kit.landmarks] + np.tensordot(
            weights, shapes.basis[:, kit.landmarks], 1
        )
        assert points[[37, 38], 1].mean() >= points[[41, 40], 1].mean() + 0.05


def as_seen(
    kit: FaceKit, shapes: FaceShapes, generator: Generator, expression: Expression
) -> tuple[GBuffer, tuple[Appearance, ...]]:
    """Twelve people with one expression, straight before the camera."""
    people = [generator.face(PER_IDENTITY * n) for n in range(12)]
    weights = np.stack([shapes.shape(expression, p.anatomy).weights for p in people])
    moved = weights.astype(np.float32) @ shapes.basis.reshape(len(shapes.basis), -1)
    vertices = torch.from_numpy(kit.generic + moved.reshape(len(people), -1, 3))
    seen = view(vertices, [Pose(0, 0, 0, 80)] * len(people), kit.landmarks)
    return draw_gbuffer(kit, seen), tuple(p.appearance for p in people)


def test_shut_lids_cover_the_eyeballs_of_everybody(kit: FaceKit, shapes: FaceShapes) -> None:
    people = Generator(3, kit)  # some of them have protruding eyes
    shut, _ = as_seen(kit, shapes, people, only(43, 5))
    open_, _ = as_seen(kit, shapes, people, only(43, 0))
    shown = [((s.region == SCLERA) | (s.region == IRIS)).sum((1, 2)) for s in (shut, open_)]
    assert shown[1].min() > 20
    assert shown[0].max() <= 24  # the slit between the lids, less than a pixel high


def test_lashes_line_the_lid_and_hang_over_shut_eyes(
    kit: FaceKit, shapes: FaceShapes, generator: Generator
) -> None:
    lids = torch.from_numpy(kit.landmarks)
    rows = torch.arange(CANVAS, dtype=torch.float32)
    drawn = {}
    for name, expression in (("open", only(43, 0)), ("shut", only(43, 5))):
        seen, people = as_seen(kit, shapes, generator, expression)
        cover = lash_cover(seen, people, lids)
        assert cover.amax((1, 2)).min() > 0.1
        assert cover.max() <= 1
        eyes = seen.landmarks[:, 36:48]
        away = (rows < eyes[..., 1].amin() - 8) | (rows > eyes[..., 1].amax() + 8)
        assert cover[:, away].max() < 1e-3  # nowhere else on the face
        for first, upper in ((36, 37), (42, 43)):
            column = seen.landmarks[:, [upper, upper + 1], 0].mean(1).round().long()
            line = cover[torch.arange(len(cover)), :, column]
            margin = seen.landmarks[:, [upper, upper + 1], 1].mean(1)
            assert ((line.argmax(1) - margin).abs() < 2).all(), (name, first)
        drawn[name] = float(cover.sum())
    assert drawn["shut"] > 1.3 * drawn["open"]  # their whole length, not their roots


def test_jaw_drop_gives_way_to_mouth_stretch(shapes: FaceShapes) -> None:
    anatomy = at_rest(0)
    assert label(shapes, only(26, 4), anatomy, 26) == pytest.approx(4, abs=0.1)
    assert label(shapes, only(26, 4), anatomy, 27) == 0
    assert label(shapes, only(27, 4), anatomy, 27) == pytest.approx(4, abs=0.1)
    assert label(shapes, only(27, 4), anatomy, 26) == 0


def test_traits_at_rest_are_not_labelled(shapes: FaceShapes) -> None:
    traits = at_rest(2, browDown_L=0.5, browDown_R=0.5, mouthFrown_L=0.3, eyeSquint_R=0.5)
    intensity = shapes.shape(only(1, 0), traits).intensity
    assert np.flatnonzero(intensity > 0).tolist() in ([], [AU_INDEX[25]])


def test_one_side_alone_counts_less_than_both(shapes: FaceShapes) -> None:
    values = np.zeros(len(AUS))
    values[AU_INDEX[14]] = 4
    smirk = Expression(values, np.zeros(len(AUS)))
    assert label(shapes, smirk, at_rest(0), 14) == pytest.approx(2.4)


def test_expressions_are_balanced(shapes: FaceShapes) -> None:
    assert sum(KINDS.values()) == pytest.approx(1)
    rng = np.random.default_rng(5)
    drawn = [sample_expression(rng) for _ in range(2500)]
    still = [not (e.left.any() or e.right.any()) for e in drawn]
    assert np.mean(still) > 0.14
    present = np.stack([np.maximum(e.left, e.right) >= 1 for e in drawn])
    alone = present.sum(1) == 1
    for au, i in AU_INDEX.items():
        assert 0.04 < present[:, i].mean() < 0.30, au
        assert present[alone, i].sum() >= 5, au


def test_a_smile_alone_leaves_the_skin_below_the_eyes(kit: FaceKit, shapes: FaceShapes) -> None:
    """AU 6 bags the lower lid and lifts the cheek; AU 12 bulges the cheek below the orbit."""
    nobody = Anatomy(np.zeros(100), np.ones(len(AUS)), np.ones(len(AUS)), {})

    def moved(au: int, anatomy: Anatomy, at: tuple[float, float]) -> np.ndarray:
        x, y, z = kit.generic.T
        near = (np.hypot(np.abs(x) - at[0], y - at[1]) < 0.35) & (kit.vertex_region == SKIN)
        weights = [shapes.shape(only(au, level), anatomy).weights for level in (4, 0)]
        return np.tensordot(weights[0] - weights[1], shapes.basis[:, near & (z > 2)], 1).mean(0)

    pouch, apple = (3.4, 2.4), (3.9, -0.2)
    assert moved(6, nobody, pouch)[1] > 3 * moved(12, nobody, pouch)[1]
    assert moved(6, nobody, pouch)[2] > 3 * abs(moved(12, nobody, pouch)[2])
    assert moved(12, nobody, apple)[2] > 0.2  # cm forward
    round_cheeks = replace(nobody, parts={"cheekApple": 2.0})
    more = moved(12, round_cheeks, apple) - moved(12, nobody, apple)
    assert more[2] > 0.1
    assert np.abs(moved(6, round_cheeks, apple) - moved(6, nobody, apple)).max() < 1e-6


def test_smiles_come_with_and_without_raised_cheeks() -> None:
    """Neither may tell the other: a network would read AU 6 from the mouth."""
    rng = np.random.default_rng(5)
    drawn = [sample_expression(rng) for _ in range(4000)]
    both = np.stack([(e.left + e.right) / 2 for e in drawn])
    smile, cheeks, lids = both[:, AU_INDEX[12]], both[:, AU_INDEX[6]], both[:, AU_INDEX[7]]
    assert 0.3 < (cheeks[smile >= 2] >= 1).mean() < 0.5
    assert 0.04 < ((cheeks >= 2) & (smile < 0.5)).mean() < 0.1
    assert ((cheeks >= 2) & (smile < 0.5) & (lids >= 1)).mean() > 0.01


@pytest.mark.parametrize(
    ("au", "feature"),
    [(4, "brow distance"), (7, "lower lid height"), (12, "mouth width"), (18, "mouth width")],
)
def test_action_units_stand_out_from_faces_at_rest(
    kit: FaceKit, shapes: FaceShapes, au: int, feature: str
) -> None:
    found = {v.au: v for v in measure_visibility(shapes, kit.landmarks, people=40)}
    assert min(v.d_prime for v in found.values()) > 1
    assert found[au].feature == feature
    assert found[18].shift < 0 < found[12].shift, "pucker narrows the mouth, a smile widens it"


def test_shards_round_trip_and_resume(
    generator: Generator, batch: RenderedBatch, tmp_path: Path
) -> None:
    path = tmp_path / "one.npz"
    write_shard(path, batch)
    back = read_shard(path)
    assert np.array_equal(back.image, batch.image)
    assert np.allclose(back.intensity, batch.intensity, atol=5e-3)
    assert np.allclose(back.landmarks, batch.landmarks, atol=0.07)
    assert is_complete(path, 0, 8)
    assert not is_complete(path, 0, 9)

    list(write_shards(generator, tmp_path, 0, 3))
    written = shard_path(tmp_path, 11, 0)
    before = written.stat().st_mtime_ns
    calls: list[tuple[int, int]] = []
    list(write_shards(generator, tmp_path, 0, 3, lambda *done: calls.append(done)))
    assert written.stat().st_mtime_ns == before, "a finished shard is kept"
    assert calls == [(3, 0)]
    written.write_bytes(written.read_bytes()[:5000])
    list(write_shards(generator, tmp_path, 0, 3))
    assert is_complete(written, 0, 3), "a damaged shard is rendered again"
    assert not list(tmp_path.glob(".*partial"))


def test_bad_shards_and_bad_ranges_are_refused(generator: Generator, tmp_path: Path) -> None:
    np.savez(tmp_path / "odd.npz", image=np.zeros((2, 5, 5), np.uint8))
    with pytest.raises(SourceError, match="not a readable shard"):
        read_shard(tmp_path / "odd.npz")
    with pytest.raises(ConfigError, match="multiple of 1024"):
        list(write_shards(generator, tmp_path, 10, 5))


def test_clips_keep_the_person_and_move_smoothly(generator: Generator, tmp_path: Path) -> None:
    clip = render_clip(generator, 1, 20, rate=25, light="flash")
    step = np.abs(np.diff(clip.frames.landmarks[:, 30], axis=0)).max()
    assert step < 3
    assert (clip.frames.identity == 1).all()
    write_clip(tmp_path / "new" / "clip.npz", clip)
    with np.load(tmp_path / "new" / "clip.npz") as data:
        assert data["image"].shape == (20, CANVAS, CANVAS)
        assert data["aus"].tolist() == list(AUS)
        assert str(data["light"]) == "flash"
