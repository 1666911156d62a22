"""Commands of the face generator: ``python -m training --help`` from the repository's root."""

from __future__ import annotations

from facestage.stream import passive_threads  # noqa: F401  # isort: skip

import copy
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import typer
from facestage.core.errors import ConfigError, DeviceError, FacestageError, SourceError
from facestage.core.network.architectures import AUNet96
from numpy.typing import NDArray

from .data import clips, shards, sheets
from .data.generator import BATCH, Generator
from .data.loader import ViewLoader
from .face import visibility
from .face.expressions import sample_anatomy, sample_expression
from .face.facekit import load_facekit
from .face.facs import AUS, FaceShapes
from .finder import recipe as finder_recipe
from .finder import train as finder_train
from .fit import amplitude, card, features, gates, heads, rest, train
from .fit.face_mesh import FaceMesh
from .photos import donors, portraits
from .photos.reenact import Reenactor
from .render.gbuffer import draw_gbuffer
from .render.raster import rasterise, rasterise_torch
from .render.scene import CANVAS, sample_pose, view

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)

Seed = Annotated[int, typer.Option(help="Seed of all faces.", min=0)]
Device = Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:0.")]
Out = Annotated[Path, typer.Option(help="Folder for the files.")]
BlendShare = Annotated[
    list[float] | None, typer.Option(min=0.0, max=1.0, help="Share of all, one for each --blend.")
]


def _device(name: str) -> str:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"{name!r} is not a torch device ({error}); try --device cpu") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError(f"no CUDA device for --device {name}; use --device cpu")
    return name


@app.command()
def render(
    out: Out,
    count: Annotated[int, typer.Option(help="Number of faces.", min=1)],
    seed: Seed = 0,
    start: Annotated[int, typer.Option(help="First face, a multiple of 1024.", min=0)] = 0,
    device: Device = "cpu",
) -> None:
    """Render faces into shards of 1024; finished shards are kept when run again."""
    _write_shards(Generator(seed, device=_device(device)), out, start, count)


@app.command()
def reenact(
    out: Out,
    count: Annotated[int, typer.Option(help="Number of pictures.", min=1)],
    seed: Seed = 0,
    start: Annotated[int, typer.Option(help="First picture, a multiple of 1024.", min=0)] = 0,
) -> None:
    """Make neutral photographs act, into shards of 1024; finished shards are kept."""
    kit = load_facekit()
    acting, skipped = donors.read_donors(kit)
    typer.echo(f"{len(acting)} people act, {len(skipped)} portraits cannot")
    for reason in skipped:
        typer.echo(f"  {reason}")
    cv2.setNumThreads(1)
    _write_shards(Reenactor(seed, kit, acting), out, start, count)


def _write_shards(source: shards.FaceSource, out: Path, start: int, count: int) -> None:
    """Write the shards and say how far it is."""
    begun = time.perf_counter()

    def report(done: int, rendered: int) -> None:
        rate = rendered / max(time.perf_counter() - begun, 1e-9)
        left = f"{(count - done) / rate / 60:.0f} min left" if rendered else "already there"
        live = sys.stdout.isatty()
        if live or done % shards.SHARD_SIZE == 0 or done == count:
            line = f"{done}/{count} faces, {rate:.1f} images/s, {left}"
            typer.echo(f"\r{line}   " if live else line, nl=not live)

    paths = list(shards.write_shards(source, out, start, count, report))
    lead = "\n" if sys.stdout.isatty() else ""
    typer.echo(f"{lead}{len(paths)} shards in {out}")


@app.command(name="portraits")
def write_portraits(out: Out) -> None:
    """Make training faces of the photographs of real people that may be trained with."""
    chosen = portraits.list_portraits()
    batch, lost = portraits.portrait_batch(chosen)
    out.mkdir(parents=True, exist_ok=True)
    path = out / "portraits.npz"
    shards.write_shard(path, batch)
    people = len(np.unique(batch.identity))
    known = 100 * np.isfinite(batch.intensity).mean()
    typer.echo(
        f"{path}: {len(batch)} photographs of {people} people, {known:.0f} % of the labels known; "
        f"no face found in {len(lost)}"
    )


@app.command()
def clip(
    out: Out,
    count: Annotated[int, typer.Option(help="Number of clips.", min=1)] = 1,
    frames: Annotated[int, typer.Option(help="Frames per clip.", min=1)] = 500,
    rate: Annotated[float, typer.Option(help="Frames per second.", min=1)] = 25.0,
    light: Annotated[str, typer.Option(help="steady, drift, flash or any.")] = "any",
    seed: Seed = 1000,
    device: Device = "cpu",
) -> None:
    """Render sequences of one person each, labelled frame by frame."""
    if light not in (*clips.LIGHTS, "any"):
        raise typer.BadParameter(f"{light!r} is none of {', '.join(clips.LIGHTS)}, any")
    generator = Generator(seed, device=_device(device))
    for index in range(count):
        clip = clips.render_clip(generator, index, frames, rate, None if light == "any" else light)
        path = out / f"clip-{seed:05d}-{index:04d}.npz"
        clips.write_clip(path, clip)
        typer.echo(f"{path}: {frames} frames, light {clip.light}")


@app.command()
def sheet(out: Out, seed: Seed = 7, device: Device = "cpu") -> None:
    """Write contact sheets: random faces, every Action Unit from neutral to E, combinations."""
    for path in sheets.write_sheets(Generator(seed, device=_device(device), side=2 * CANVAS), out):
        typer.echo(path)


@app.command(name="visibility")
def show_visibility(
    intensity: Annotated[float, typer.Option(help="FACS intensity 0-5.", min=0, max=5)] = 3.0,
    people: Annotated[int, typer.Option(help="Identities compared.", min=2)] = 120,
) -> None:
    """Print how far each Action Unit moves the face against how much faces differ at rest."""
    kit = load_facekit()
    typer.echo(f"Action Units alone at intensity {intensity:g}, {people} people, template pixels")
    typer.echo(
        f"{'AU':>3}  {'feature':18s} {'shift':>7} {'spread':>7} {'d′':>5} {'farthest point':>15}"
    )
    for v in visibility.measure_visibility(FaceShapes(kit), kit.landmarks, intensity, people):
        typer.echo(
            f"{v.au:3d}  {v.feature:18s} {v.shift:7.2f} {v.spread:7.2f} {v.d_prime:5.1f} "
            f"{v.shape:15.2f}"
        )


@app.command(name="rest")
def show_rest(
    count: Annotated[int, typer.Option(help="People rendered.", min=2)] = 160,
    seed: Seed = 0,
    own_light: Annotated[
        bool, typer.Option("--own-light", help="The light drawn for each face, not an even one.")
    ] = False,
    real: Annotated[
        Path | None, typer.Option(help="CSV of people; by default faces/rest.csv.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
    device: Device = "cpu",
) -> None:
    """Compare distances of rendered neutral faces with those of people; 1 if one is off."""
    people, mesh = rest.read_people(real), FaceMesh()
    generator = rest.resting_generator(seed, _device(device))
    faces = rest.neutral_faces(generator, count, own_light=own_light)
    live = sys.stderr.isatty()

    def report(done: int) -> None:
        if live:
            typer.echo(f"\r{done}/{count} faces ", nl=done == count, err=True)

    found = rest.compare(people, rest.rendered_distances(generator, mesh, faces, report))
    typer.echo(f"{count} neutral faces of seed {seed}, in distances between the eyes")
    typer.echo(
        f"{'distance':21s} {'real':>7} {'sd':>6} {'rendered':>8} {'sd':>6} "
        f"{'shift sd':>8} {'px':>6} {'spread':>6}  verdict"
    )
    for c in found:
        typer.echo(
            f"{c.distance:21s} {c.real_mean:7.4f} {c.real_sd:6.4f} {c.rendered_mean:8.4f} "
            f"{c.rendered_sd:6.4f} {c.shift:+8.2f} {c.pixels:+6.2f} {c.spread:6.2f}  {c.verdict}"
        )
    fitting = sum(c.verdict == "fits" for c in found)
    typer.echo(
        f"{fitting} of {len(found)} fit: means within {rest.MEAN_LIMIT} sd, "
        f"spreads within {100 * rest.SPREAD_LIMIT:.0f} %"
    )
    if out is not None:
        facts = {"count": count, "seed": seed, "own_light": own_light}
        facts["distances"] = [c.facts() for c in found]
        try:
            out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            raise SourceError(f"cannot write {out}: {error}; choose another --json") from error
    if fitting < len(found):
        raise typer.Exit(1)


@app.command(name="amplitude")
def show_amplitude(
    au: Annotated[
        list[int] | None, typer.Option(help="Action Unit; may be given again. Default: all.")
    ] = None,
    count: Annotated[int, typer.Option(help="People rendered.", min=1)] = 8,
    most: Annotated[int, typer.Option(help="Distances shown of each.", min=1)] = 3,
    smiles: Annotated[
        bool, typer.Option("--smiles", help="Also people photographed neutral and smiling.")
    ] = False,
    seed: Seed = 0,
    device: Device = "cpu",
) -> None:
    """Print how far each Action Unit, alone, moves distances of the face, at A to E."""
    unknown = [str(number) for number in au or () if number not in AUS]
    if unknown:
        raise ConfigError(f"no AU {', '.join(unknown)}; known are {', '.join(map(str, AUS))}")
    mesh = FaceMesh()
    people = amplitude.smiles_of_people(mesh) if smiles else {}
    generator = rest.resting_generator(seed, _device(device))
    typer.echo(f"change from rest, pixels of the crop, mean of {count} people of seed {seed}")
    typer.echo(f"{'AU':>3}  {'distance':21s}" + "".join(f"{level:>7}" for level in "ABCDE"))
    for number in au or AUS:
        found = amplitude.rendered_amplitudes(generator, mesh, [number], count)
        for a in found[:most]:
            pixels = "".join(f"{change:+7.2f}" for change in a.pixels)
            typer.echo(f"{a.au:3d}  {a.distance:21s}{pixels}")
    if people:
        typer.echo(f"\nneutral to smile, {len(people['lip_gap'])} people photographed")
        typer.echo(f"{'':3}  {'distance':21s}{'10 %':>7}{'median':>7}{'90 %':>7}")
        for name, change in people.items():
            low, middle, high = np.percentile(change, (10, 50, 90))
            typer.echo(f"{'':3}  {name:21s}{low:+7.2f}{middle:+7.2f}{high:+7.2f}")


@app.command()
def balance(
    count: Annotated[int, typer.Option(help="Expressions drawn.", min=100)] = 5000, seed: Seed = 0
) -> None:
    """Print how often each Action Unit is present, and how often alone, in what is drawn."""
    shapes = FaceShapes(load_facekit())
    rng = np.random.default_rng(seed)
    drawn = (shapes.shape(sample_expression(rng), sample_anatomy(rng)) for _ in range(count))
    present = np.stack([s.intensity for s in drawn]) >= 1
    alone = present & (present.sum(1, keepdims=True) == 1)
    typer.echo(f"no Action Unit: {100 * (~present.any(1)).mean():.1f} % of {count} faces")
    typer.echo(f"{'AU':>3} {'present %':>10} {'alone %':>8}")
    for i, au in enumerate(AUS):
        typer.echo(f"{au:3d} {100 * present[:, i].mean():10.1f} {100 * alone[:, i].mean():8.1f}")


@app.command()
def speed(
    count: Annotated[int, typer.Option(help="Faces measured.", min=BATCH)] = 64,
    device: Device = "cpu",
) -> None:
    """Measure images/s of both rasterisers and of the whole generator (one thread on the CPU)."""
    if device == "cpu":
        torch.set_num_threads(1)
    generator = Generator(0, device=_device(device))
    kit, shapes = generator.kit, generator.shapes
    rng = np.random.default_rng(0)
    weights = np.stack(
        [shapes.shape(sample_expression(rng), sample_anatomy(rng)).weights for _ in range(BATCH)]
    ).astype(np.float32)
    basis = shapes.basis.reshape(len(weights[0]), -1)
    vertices = torch.from_numpy(kit.generic + (weights @ basis).reshape(BATCH, -1, 3)).to(device)
    seen = view(vertices, [sample_pose(rng) for _ in range(BATCH)], kit.landmarks)
    triangles = torch.from_numpy(kit.triangles).to(device).long()
    screen = seen.screen
    on_cpu = screen.cpu()
    for name, run in (
        (
            "rasteriser, compiled (CPU)",
            lambda: rasterise(on_cpu, kit.triangles, kit.opaque_count, CANVAS),
        ),
        ("rasteriser, torch", lambda: rasterise_torch(screen, triangles, kit.opaque_count, CANVAS)),
        ("whole G-buffer", lambda: draw_gbuffer(kit, seen)),
    ):
        typer.echo(f"{name:28s} {_rate(run, BATCH, device):8.1f} images/s")
    indices = iter(range(10**9))
    total = _rate(
        lambda: generator.render([next(indices) for _ in range(BATCH)]),
        BATCH,
        device,
        count // BATCH,
    )
    typer.echo(f"{'whole generator':28s} {total:8.1f} images/s on {device}, batches of {BATCH}")


@app.command(name="train")
def train_network(
    shards_folder: Annotated[Path, typer.Option("--shards", help="Folder of rendered shards.")],
    out: Out,
    views: Annotated[int, typer.Option(help="Crops to train on in all.", min=1)] = 3_000_000,
    batch: Annotated[int, typer.Option(help="Crops per step.", min=2)] = 48,
    lr: Annotated[float, typer.Option(help="Highest learning rate.", min=1e-6)] = 2e-3,
    hold: Annotated[float, typer.Option(help="Share of the run before the rate falls.")] = 0.3,
    every: Annotated[int, typer.Option(help="Crops between checkpoints.", min=1)] = 24_000,
    validation: Annotated[int, typer.Option(help="Fixed held-out views.", min=1)] = 2_000,
    processes: Annotated[
        int, typer.Option(help="Processes that share each batch; on a CPU one per core.", min=1)
    ] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads of torch per process.", min=1)] = 1,
    workers: Annotated[int, typer.Option(help="Threads that make views, per process.")] = 1,
    begin: Annotated[
        str, typer.Option(help="Weights to begin from: scratch, embedded or a file.")
    ] = "scratch",
    beside: Annotated[
        list[Path] | None,
        typer.Option(help="Further folder of shards (photographs); may be given again."),
    ] = None,
    beside_share: Annotated[
        list[float] | None,
        typer.Option(min=0.0, max=1.0, help="Share of every batch, one for each --beside."),
    ] = None,
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="Compute in it; faster on CPUs that know it.")
    ] = False,
    seed: Seed = 1,
    device: Device = "cpu",
) -> None:
    """Train the embedded network; goes on from the newest checkpoint in --out."""

    def report(progress: train.Progress) -> None:
        rate = progress.done / max(progress.seconds, 1e-9)
        line = (
            f"{progress.views}/{views} views, epoch {progress.epoch}, {progress.faces} faces, "
            f"{rate:.0f} views/s; presence {progress.presence:.4f}, "
            f"intensity {progress.intensity:.4f}, landmarks {progress.landmarks:.4f}"
        )
        if progress.figures:
            names = ("auc", "auc_clear", "icc", "landmark_error")
            known = [name for name in names if progress.figures[name] is not None]
            line += "; held out: " + ", ".join(
                f"{name} {progress.figures[name]:.4f}" for name in known
            )
        typer.echo(line)

    config = train.RunConfig(
        shards_folder,
        out,
        views,
        batch,
        lr=lr,
        hold=hold,
        seed=seed,
        every=every,
        validation=validation,
        workers=workers,
        processes=processes,
        threads=threads,
        begin=begin,
        beside=_with_shares("beside", beside, beside_share),
        bfloat16=bfloat16,
    )
    train.run(config, report, _device(device))


@app.command(name="heads")
def train_heads(
    shards_folder: Annotated[Path, typer.Option("--shards", help="Folder of rendered shards.")],
    out: Out,
    au: Annotated[list[int], typer.Option(help="Action Unit; may be given several times.")],
    features_folder: Annotated[
        Path, typer.Option("--features", help="Folder that keeps what the trunk makes of views.")
    ],
    run: Annotated[Path | None, typer.Option(help="Folder of checkpoints of `train`.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Instead of a run: embedded, or a .safetensors file.")
    ] = None,
    blend: Annotated[
        list[Path] | None, typer.Option(help="Earlier checkpoint to average with, as for `card`.")
    ] = None,
    blend_share: BlendShare = None,
    views: Annotated[int, typer.Option(help="Faces to train on, a view of each.", min=1)] = 70_400,
    epochs: Annotated[int, typer.Option(help="Passes over them.", min=1)] = 2,
    confusing: Annotated[
        int, typer.Option(help="How often a view of a neighbour without the AU counts.", min=1)
    ] = 3,
    decay: Annotated[
        list[float] | None, typer.Option(help="Weight decay to try, rising; may be given again.")
    ] = None,
    beside: Annotated[
        Path | None, typer.Option(help="Folder of photographs, of `portraits`.")
    ] = None,
    photographs: Annotated[
        float, typer.Option(help="Their share of each batch.", min=0.0, max=0.9)
    ] = 0.0,
    gate: Annotated[
        float,
        typer.Option(help="Read only features that look at the AU's region this much more.", min=0),
    ] = 0.0,
    outputs_only: Annotated[
        bool, typer.Option("--outputs-only", help="Keep the hidden units as they are.")
    ] = False,
    keep: Annotated[
        float, typer.Option(help="Share of the old outputs (--outputs-only) to keep.", min=0.0)
    ] = 0.0,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Who says what photographs show that nobody coded: present (the network as it "
            "is), or a folder of read-outs by `heads`."
        ),
    ] = None,
    validation: Annotated[int, typer.Option(help="Held-out faces to choose by.", min=1)] = 5_120,
    workers: Annotated[int, typer.Option(help="Threads that make views.", min=0)] = 1,
    commit: Annotated[
        str | None, typer.Option(help="Commit of the generator of these faces, if another.")
    ] = None,
    seed: Seed = 11,
) -> None:
    """Retrain the read-outs of single Action Units; all others stay as they are, bit by bit."""
    config = heads.HeadsConfig(
        tuple(au),
        epochs,
        confusing=confusing,
        seed=seed,
        photographs=photographs,
        gate=gate,
        outputs_only=outputs_only,
        keep=keep,
        teacher=_kind_of(teacher),
        **({"decays": tuple(decay)} if decay else {}),
    )
    if (photographs or gate) and beside is None:
        raise ConfigError("--photographs and --gate need --beside, a folder of `portraits`")
    net = _network(run, weights, blend, blend_share)
    if not outputs_only:
        heads.own_units(net, config.aus)
    say = _share_of_views()
    with ViewLoader([shards_folder], seed, batch=features.BATCH, workers=workers) as loader:
        seen = features.gather(features_folder, net, loader, views, report=say)
        judged = features.gather(
            features_folder, net, loader, validation, kind=features.HELD_OUT, report=say
        )
    photographed = enriched = None
    if beside is not None:
        photographed, enriched = _from_photographs(beside, features_folder, net, config, seed)
    taught, told = _teacher(teacher, net)
    material = heads.Material(seen, photographed, enriched, taught)
    tensors, facts = heads.retrain(net, material, judged, config, typer.echo)
    facts |= ({"commit": commit} if commit else {}) | told
    typer.echo(heads.save(out, (tensors, facts)))


def _kind_of(teacher: str | None) -> str:
    if teacher is None or teacher == heads.PRESENT:
        return teacher or ""
    return heads.GIVEN


def _teacher(name: str | None, net: AUNet96) -> tuple[AUNet96 | None, dict[str, Any]]:
    """Return the network that teaches, if it is not the one as it is, and facts of it to keep."""
    if _kind_of(name) != heads.GIVEN:
        return None, {}
    stored = heads.load(Path(str(name)))
    teacher = copy.deepcopy(net)
    heads.put_in(teacher, [(stored.tensors, stored.facts)])
    kept = ("photographs", "gate", "epochs", "seed", "decay")
    return teacher, {"taught_by": {key: stored.facts[key] for key in kept}}


def _network(
    run: Path | None,
    weights: str | None,
    blend: list[Path] | None,
    blend_share: list[float] | None,
) -> AUNet96:
    """Take the network of a run or of weights, in the newest layout of hidden units."""
    if (run is None) == (weights is None):
        raise ConfigError("name the network: --run FOLDER, or --weights embedded or FILE")
    if run is not None:
        return train.averaged_network(run, _with_shares("blend", blend, blend_share))
    return train.stored_network(str(weights))


def _from_photographs(
    folder: Path, kept: Path, net: AUNet96, config: heads.HeadsConfig, seed: int
) -> tuple[features.Features, NDArray[np.float64] | None]:
    """Return features of photographs, and where each feature looks if a gate asks."""
    with ViewLoader([folder], seed, batch=features.BATCH, workers=0) as loader:
        every = features.PORTRAITS.rounds * loader.faces
        seen = features.gather(kept, net, loader, every, kind=features.PORTRAITS)
    if not config.gate:
        return seen, None
    portraits = shards.read_shard(sorted(folder.glob("*.npz"))[0])
    return seen, gates.enrichment(net, portraits, config.aus[:1])[:, 0]


def _share_of_views() -> Callable[[int, int], None]:
    """Return a report that speaks twenty times."""
    said = -1

    def report(done: int, wanted: int) -> None:
        nonlocal said
        if done * 20 // wanted != said:
            said = done * 20 // wanted
            typer.echo(f"{done}/{wanted} views")

    return report


@app.command(name="card")
def write_card(
    shards_folder: Annotated[Path, typer.Option("--shards", help="Folder of rendered shards.")],
    out: Annotated[Path, typer.Option(help="The .safetensors file; its card goes beside it.")],
    machine: Annotated[str, typer.Option(help="What rendering and training ran on.")],
    commit: Annotated[str, typer.Option(help="Commit of the generator and the recipe.")],
    run: Annotated[Path | None, typer.Option(help="Folder of checkpoints of `train`.")] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Instead of a run: weights whose read-outs are renewed, and their card."),
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Version of the renewed weights (with --weights).")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="JSON of benchmarks/calibrate_au.py.")
    ] = None,
    real: Annotated[Path | None, typer.Option(help="JSON of benchmarks/au_real.py.")] = None,
    earlier: Annotated[
        str | None, typer.Option(help="Other faces that the run began with, one phrase.")
    ] = None,
    blend: Annotated[
        list[Path] | None,
        typer.Option(
            help="Earlier checkpoint of the run to average weights with; may be given again."
        ),
    ] = None,
    blend_share: BlendShare = None,
    heads_folder: Annotated[
        list[Path] | None,
        typer.Option("--heads", help="Folder of read-outs by `heads`; may be given again."),
    ] = None,
    beside: Annotated[
        list[Path] | None, typer.Option(help="Folder of photographs trained with; again for more.")
    ] = None,
    document: Annotated[Path | None, typer.Option("--page", help="Markdown page to write.")] = None,
    notes: Annotated[Path | None, typer.Option(help="Markdown for its known failures.")] = None,
) -> None:
    """Export weights with their model card, and its page."""
    net = _network(run, weights, blend, blend_share)
    renewed = [heads.load(folder) for folder in heads_folder or ()]
    judged = card.Judgement(_json(calibration), _json(real))
    made = card.Making(commit, machine, tuple(beside or ()), tuple(head.facts for head in renewed))
    if run is not None:
        blends = _with_shares("blend", blend, blend_share)
        facts = card.assemble(run, shards_folder, made, judged, earlier, blends)
    else:
        if version is None:
            raise ConfigError("renewed weights need a --version of their own")
        facts = card.renewed(train.card_of(str(weights)), version, shards_folder, made, judged)
    exported = train.export_with(net, facts, out, renewed)
    typer.echo(f"{out}: {exported.name}, sha256 {exported.sha256}")
    if document is not None:
        document.write_text(
            card.page(exported, notes.read_text(encoding="utf-8") if notes else ""),
            encoding="utf-8",
        )
        typer.echo(document)


@app.command(name="finder")
def train_finder(
    out: Annotated[Path, typer.Option(help="Folder of heads and checkpoints; resumable.")],
    pictures: Annotated[
        Path, typer.Option(help="Folder with the unpacked packages of finder/pictures.csv.")
    ],
    weights: Annotated[Path, typer.Option(help="The .safetensors file; its card goes beside it.")],
    people: Annotated[int, typer.Option(help="People rendered.", min=1)] = 4_096,
    scenes: Annotated[int, typer.Option(help="Scenes to train on in all.", min=1)] = 640_000,
    lr: Annotated[float, typer.Option(help="Highest learning rate.", min=1e-6)] = 2e-3,
    seed: Seed = 31,
) -> None:
    """Train the face finder: heads, scenes, network, weights with their card."""
    torch.set_num_threads(1)
    finder_recipe.make_heads(out, people, seed, typer.echo)
    composer = finder_recipe.read_composer(out, pictures, seed)
    settings = finder_train.Settings(scenes=scenes, rate=lr)

    def report(facts: dict[str, float]) -> None:
        typer.echo(", ".join(f"{name} {value:.4g}" for name, value in facts.items()))

    network = finder_train.train(composer, out, settings, report=report)
    finder_recipe.write_finder(network, weights, settings, {})
    typer.echo(weights)


def _with_shares(
    option: str, paths: list[Path] | None, shares: list[float] | None
) -> tuple[tuple[Path, float], ...]:
    paths, shares = paths or [], shares or []
    if len(paths) != len(shares):
        raise ConfigError(
            f"{len(paths)} --{option} and {len(shares)} --{option}-share; give a share for each"
        )
    return tuple(zip(paths, shares, strict=True))


def _json(path: Path | None) -> dict | None:
    return None if path is None else json.loads(path.read_text(encoding="utf-8"))


def _rate(run, images: int, device: str, repeats: int = 3) -> float:
    """Images per second of processor time (CPU) or wall time (others), after one warm-up."""
    run()
    clock = time.process_time if device == "cpu" else time.perf_counter
    begun = clock()
    for _ in range(repeats):
        run()
    if device != "cpu":
        torch.cuda.synchronize()
    return repeats * images / max(clock() - begun, 1e-9)


def main() -> None:
    """Run a command; errors of facestage end it with one line and their exit status."""
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads and threads.isdigit():
        torch.set_num_threads(int(threads))
    try:
        app()
    except FacestageError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(error.exit_code) from error


if __name__ == "__main__":
    main()
