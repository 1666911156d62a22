"""The command line: ``facestage demo | live | analyze | corpus | bench | models | doctor | …``.

Every option can also be set by environment: ``facestage live --port`` is ``FACESTAGE_LIVE_PORT``.
Exit codes: 0 done, 1 standard output cannot be written, 2 usage, 3 a figure of a benchmark broke
its limit, 4 a source failed, 5 a model or device failed.

A command imports what it runs only when it runs: help, the version and a usage error wait for
neither torch nor OpenCV.
"""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import FacestageError, SlowEngineWarning
from . import passive_threads  # noqa: F401 - before any command imports torch
from .commands.options import takes
from .commands.signatures import (
    AnalyzeOptions,
    BenchOptions,
    CorpusOptions,
    DemoOptions,
    DoctorOptions,
    EvaluateOptions,
    ExportOptions,
    LiveOptions,
    MarkerOptions,
    QualityOptions,
    ReplayOptions,
    ReportOptions,
    TrainOptions,
)
from .console import err, is_output_error, out, silence, tell_warnings

__all__ = ["app", "main"]

app = typer.Typer(
    name="facestage",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "FACESTAGE"},
    help="Explained facial Action Units, live: stages, and when the explanation changes. "
    "Research software, not a medical device.",
)
models_app = typer.Typer(no_args_is_help=True, help="Models: list, read the card, fetch, check.")
app.add_typer(models_app, name="models")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        out.print(f"facestage {version('facestage')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens.")] = False,
) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )
    tell_warnings(SlowEngineWarning)
    # A client that breaks its handshake is its own problem, not a line in everybody's log.
    logging.getLogger("websockets").setLevel(logging.ERROR if not verbose else logging.INFO)


def _announce() -> None:
    """Say at once who speaks: loading torch and the network takes seconds."""
    from importlib.metadata import version

    out.print(f"facestage {version('facestage')}: research software, not a medical device")


@app.command()
@takes(DemoOptions)
def demo(options: DemoOptions) -> None:
    """Play the embedded clip of a synthetic face through the whole live path.

    On a terminal it loops until Ctrl-C; without one it plays once.
    """
    _announce()
    from .commands.live import run_demo

    run_demo(options)


@app.command()
@takes(LiveOptions)
def live(options: LiveOptions) -> None:
    """Explain live sources, with a page to watch and a websocket to listen to."""
    _announce()
    from .commands.live import run_live

    run_live(options)


@app.command()
@takes(ReplayOptions)
def replay(options: ReplayOptions) -> None:
    """Play a recorded session: the same page and socket as live, with pause and seek."""
    from .commands.replay import run_replay

    run_replay(options)


@app.command()
@takes(ReportOptions)
def report(options: ReportOptions) -> None:
    """Write what analyze writes, from a recorded session."""
    from .commands.report import run_report

    run_report(options)


@app.command()
@takes(AnalyzeOptions)
def analyze(options: AnalyzeOptions) -> None:
    """Explain a whole recording: temporal prototype, pictures, report."""
    from .commands.analyze import run_analyze

    run_analyze(options)


@app.command()
@takes(CorpusOptions)
def corpus(options: CorpusOptions) -> None:
    """Analyse every sequence of a corpus; Table 1 of the paper, relations, patterns, pages."""
    from .commands.corpus import run_corpus

    run_corpus(options)


@app.command()
@takes(ExportOptions)
def export(options: ExportOptions) -> None:
    """Write results for ELAN, NOVA, BORIS, a spreadsheet, or as FHIR or EDF+."""
    from .commands.export import run_export

    run_export(options)


@app.command()
@takes(MarkerOptions)
def markers(options: MarkerOptions) -> None:
    """List the markers of results, or add those of another program's file."""
    from .commands.export import run_markers

    run_markers(options)


@app.command()
@takes(TrainOptions)
def train(options: TrainOptions) -> None:
    """Train or fine-tune an AU network on labelled faces, tested on other subjects."""
    from .commands.train import run_train

    run_train(options)


@app.command()
@takes(EvaluateOptions)
def evaluate(options: EvaluateOptions) -> None:
    """Compare a network with labels: F1, AUC, ICC(3,1), prevalence and calibration per AU."""
    from .commands.evaluate import run_evaluate

    run_evaluate(options)


@app.command()
@takes(QualityOptions)
def explain_quality(options: QualityOptions) -> None:
    """Measure how good the relevance maps of a recording are, per AU."""
    from .commands.explain_quality import run_explain_quality

    run_explain_quality(options)


@app.command()
@takes(BenchOptions)
def bench(options: BenchOptions) -> None:
    """Measure how fast this machine is at it: per step, by cameras, at a pace, offline.

    Exit code 3: a figure broke a limit of --fail-over, or was not measured.
    """
    from .commands.bench import run_bench

    report = run_bench(options)
    if not all(verdict.holds for verdict in report.limits):
        raise typer.Exit(3)


@app.command()
@takes(DoctorOptions)
def doctor(options: DoctorOptions) -> None:
    """Say what this machine has and lacks: device, weights, cameras, codecs, port, clock.

    Changes nothing. Exit code: 0 nothing is broken, 4 the source is, 5 something else is.
    """
    from .commands.doctor import run_doctor

    if code := run_doctor(options):
        raise typer.Exit(code)


@models_app.command("list")
def models_list() -> None:
    """List the embedded network with its grades, and the optional models, if at hand or not."""
    from .commands.models import list_models

    list_models()


@models_app.command("card")
def models_card(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A .safetensors file; default: the embedded one."),
    ] = None,
) -> None:
    """Print the model card of a network: grades and figures per AU, data, recipe, limits."""
    from .commands.models import print_card

    print_card(model)


@models_app.command("pull")
def models_pull(name: Annotated[str, typer.Argument(help="Such as yunet.")]) -> None:
    """Fetch an optional model into the cache and check its sha256."""
    from .commands.models import pull_model

    pull_model(name)


@models_app.command("verify")
def models_verify(name: Annotated[str, typer.Argument(help="Such as yunet.")]) -> None:
    """Check every byte of a cached model."""
    from .commands.models import verify_model

    verify_model(name)


def main() -> None:
    """Run the command line; turn every error of ours into one line and its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal without UTF-8 shows "?" for what it lacks, instead of ending the run.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except FacestageError as error:
        err.print(f"facestage: {error}", markup=False)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our output has gone (a pipe into head): nothing left to say.
        sys.exit(0)
    except OSError as error:
        if not is_output_error(error):
            raise
        silence()
        err.print(
            f"facestage: standard output cannot be written ({error.strerror}); free some space, or "
            "send it elsewhere",
            markup=False,
        )
        sys.exit(1)
