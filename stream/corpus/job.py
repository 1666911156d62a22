"""The analysis of one sequence after the other, as a worker does it: the same in every engine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch

from ...core.config import AnalyzerConfig
from ...core.errors import FacestageError, ModelError, SourceError
from ...core.network.au_network import AUNetwork
from ...core.sequence import SequenceAnalyzer
from ...core.types import SequenceResult
from ..compute import limit_blas
from ..datasets.sequences import SequenceItem
from ..detectors import make_detector
from ..offline.analyze import analyze_source
from ..offline.shelf import DiskShelf
from .store import CorpusFolder

__all__ = ["SequenceOutcome", "SequenceWorker", "Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a worker needs to know; the same for all of a run.

    Attributes:
        out: the output folder. ``identity``: what it must hold.
        config: constants of the analysis. ``preset``: SpRAy preset.
        model: weights; the embedded network if None. ``device``, ``detector``: as on the command
            line.
        threads: of the network, on the CPU.
        reports: whether each sequence gets its report and pictures.
    """

    out: Path
    identity: dict[str, Any]
    config: AnalyzerConfig
    preset: str
    model: Path | None = None
    device: str = "auto"
    detector: str = "auto"
    threads: int = 1
    reports: bool = True


@dataclass(frozen=True, slots=True)
class SequenceOutcome:
    """What became of a sequence.

    Attributes:
        item: the sequence.
        reason: why it failed; empty if it did not.
        frames: frames analysed.
        analysis_s, pictures_s: seconds spent on reading and analysing, and on writing its folder.
    """

    item: SequenceItem
    reason: str = ""
    frames: int = 0
    analysis_s: float = 0.0
    pictures_s: float = 0.0


class SequenceWorker:
    """Analyse sequences with one network and one detector.

    Args:
        settings: what to do.
        network: the network of ``settings``, where it is loaded already.

    Raises:
        FacestageError: model, device, detector or output folder cannot be used.
    """

    def __init__(self, settings: Settings, network: AUNetwork | None = None) -> None:
        # All would otherwise take every core in every worker.
        torch.set_num_threads(settings.threads)
        cv2.setNumThreads(settings.threads)
        limit_blas(settings.threads)
        self._settings = settings
        self._folder = CorpusFolder(settings.out, settings.identity)
        network = network or AUNetwork.load(settings.model, device=settings.device)
        self._analyzer = SequenceAnalyzer(
            make_detector(settings.detector),
            network,
            settings.config,
            preset=settings.preset,
            shelf=DiskShelf(),
        )
        on, off = network.card.thresholds()
        self._limits = {au: (float(on[i]), float(off[i])) for i, au in enumerate(network.card.aus)}

    def run(self, item: SequenceItem) -> SequenceOutcome:
        """Analyse a sequence and write its folder, or the reason why it cannot be analysed.

        Raises:
            ModelError: the network itself is at fault.
            ConfigError: the output folder cannot be written.
        """
        began = time.perf_counter()
        result, reason = self._analyse(item)
        analysed = time.perf_counter()
        if result is None:
            self._folder.fail(item, reason)
        else:
            self._folder.put(item, result, self._limits, reports=self._settings.reports)
        return SequenceOutcome(
            item,
            reason,
            0 if result is None else len(result.rows),
            analysed - began,
            time.perf_counter() - analysed,
        )

    def _analyse(self, item: SequenceItem) -> tuple[SequenceResult | None, str]:
        if item.problem:
            return None, item.problem
        self._analyzer.reset()
        try:
            result = analyze_source(item.source, self._analyzer)
            if result.note:
                raise SourceError(f"{item.source}: {result.note}; copy it again")
            if all(row.presence is None for row in result.rows):
                raise SourceError(
                    f"no usable face in any of the {len(result.rows)} frames of {item.source}"
                )
        except ModelError:
            raise
        except FacestageError as error:
            return None, str(error)
        except Exception as error:
            # One broken sequence of a corpus must not cost the others, whatever is wrong with it.
            return None, f"unexpected {type(error).__name__}: {error}"
        finally:
            self._analyzer.reset()
        return result, ""
