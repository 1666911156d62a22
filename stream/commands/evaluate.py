"""``facestage evaluate``: a network against labels."""

from __future__ import annotations

import json

from ...core.action_units import au_code
from ...core.errors import ConfigError
from ...core.network.au_network import AUNetwork
from ..compute import set_threads
from ..console import out
from ..files import check_target, write_file
from ..learning.evaluate import as_json, evaluate_crops, format_table
from ..progress import progress
from .labels import collect, labelled_faces, make_folder
from .signatures import EvaluateOptions

__all__ = ["run_evaluate"]


def run_evaluate(options: EvaluateOptions) -> None:
    """Print the figures of a network on labelled faces, and write them if asked to.

    Raises:
        FacestageError: an option, the labels, the model or the file cannot be used.
    """
    set_threads(options.threads)
    if options.out_file is not None:
        check_target(options.out_file)
        make_folder(options.out_file.parent)
    network = AUNetwork.load(options.weights, options.device)
    faces = labelled_faces(options)
    unknown = [au for au in faces.coded() if au not in network.card.aus]
    if len(unknown) == len(faces.coded()):
        raise ConfigError(
            f"none of the labelled AUs ({', '.join(map(au_code, unknown))}) is known to "
            f"{network.name}; it has {', '.join(map(au_code, network.card.aus))}"
        )
    cut = collect(faces, network, options.detector, options.crops)
    with progress("predicting", len(cut.faces)) as update:
        figures = evaluate_crops(network, cut, on_progress=lambda done: update(done, str))
    out.print(f"{network.name} on {network.device}, present from intensity 1 (A)", markup=False)
    for line in format_table(figures):
        out.print(line, markup=False)
    if unknown:
        out.print(f"not in this network: {', '.join(map(au_code, unknown))}", markup=False)
    if options.out_file is not None:
        facts = as_json(
            figures,
            model=network.name,
            sha256=network.card.sha256,
            data=list(faces.notes),
            pictures=len(faces),
            faces=len(cut.faces),
            subjects=len(cut.faces.subjects),
            left_out=cut.failures,
            not_in_network=unknown,
        )
        text = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)
        write_file(options.out_file, f"{text}\n".encode())
        out.print(f"written: {options.out_file}", markup=False)
