"""Who does the work: this process, a pool of processes, or Ray. All run the same worker."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from typing import Any

import numpy as np

from ...core.errors import ConfigError, FacestageError
from ...core.network.au_network import AUNetwork
from ..datasets.sequences import SequenceItem
from .job import SequenceOutcome, SequenceWorker, Settings
from .store import CorpusFolder

__all__ = ["check_ray", "check_slots", "in_pool", "in_process", "on_ray", "ray_slot"]

Stop = Callable[[], bool]
"""Asked between sequences: true ends the run once those in flight are through."""

CRASHED = "its worker process ended without a word: it crashed, or was killed for want of memory"


def in_process(
    items: Sequence[SequenceItem], settings: Settings, network: AUNetwork, stop: Stop
) -> Iterator[SequenceOutcome]:
    """Analyse in this process, one after the other."""
    worker = SequenceWorker(settings, network)
    for item in items:
        if stop():
            return
        yield worker.run(item)


_worker: SequenceWorker | None = None


def _begin() -> None:
    """Prepare a worker process: Ctrl-C is its parent's business, and it never outlives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("only a worker process may begin like this, not the first process")

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _run(settings: Settings, item: SequenceItem) -> SequenceOutcome:
    global _worker  # noqa: PLW0603 - one network per process, for all its sequences
    if _worker is None:
        _worker = SequenceWorker(settings)
    return _worker.run(item)


class _CrashError(Exception):
    """Worker processes died; ``suspects`` were in flight."""

    def __init__(self, suspects: list[SequenceItem]) -> None:
        super().__init__(f"{len(suspects)} sequences were in flight")
        self.suspects = suspects


def in_pool(
    items: Sequence[SequenceItem], settings: Settings, workers: int, stop: Stop
) -> Iterator[SequenceOutcome]:
    """Analyse in ``workers`` processes.

    When one of them dies, the sequences in flight are tried again one by one; the one that kills
    its process again is noted as failed, and the others go on.

    Raises:
        FacestageError: the model or the output folder cannot be used.
    """
    queue = deque(items)
    suspects: deque[SequenceItem] = deque()
    folder = CorpusFolder(settings.out, settings.identity)
    while (queue or suspects) and not stop():
        alone = deque([suspects.popleft()]) if suspects else None
        try:
            yield from _pool(
                queue if alone is None else alone, settings, 1 if alone else workers, stop
            )
        except _CrashError as crash:
            if stop():
                return  # whoever stopped this run ended its workers, too
            if alone is None:
                suspects += crash.suspects
                continue
            (item,) = crash.suspects
            folder.sweep(item)
            folder.fail(item, CRASHED)
            yield SequenceOutcome(item, CRASHED)


def _pool(
    queue: deque[SequenceItem], settings: Settings, workers: int, stop: Stop
) -> Iterator[SequenceOutcome]:
    # A forked child of a process that has run torch can hang on its locks.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin) as pool:
        flying: dict[Future[SequenceOutcome], SequenceItem] = {}
        try:
            while queue or flying:
                while queue and len(flying) < workers and not stop():
                    item = queue.popleft()
                    flying[pool.submit(_run, settings, item)] = item
                if not flying:
                    return
                done, _ = wait(flying, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    outcome = future.result()
                    del flying[future]
                    yield outcome
        except BrokenProcessPool:
            raise _CrashError(list(flying.values())) from None


def check_ray(address: str | None) -> None:
    """Check that Ray is installed and, where an address is given, that somebody answers there.

    Raises:
        ConfigError: it is not, or nobody does.
    """
    # Ray reports usage to its makers unless told not to, and reads this when it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # else it warns about its own actors
    try:
        # Optional, and slow to import.
        import ray.data  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ConfigError(
            f"--engine ray needs Ray, which cannot be imported ({error}); "
            "pip install 'facestage[ray]'"
        ) from None
    if address is None or address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(
            f"--ray-address {address} is not of the form HOST:PORT or ray://HOST:PORT"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"nobody answers at --ray-address {address} ({error}); start a cluster with 'ray start "
            "--head', or leave the option out to run on this machine"
        ) from None


class _RayWorker:
    """The actor: one network per slot. Errors travel as values, so that Ray does not retry them."""

    def __init__(self) -> None:
        self._worker: SequenceWorker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        outcomes = []
        for raw in batch["job"]:
            settings, item = pickle.loads(raw)  # made by on_ray
            outcome: SequenceOutcome | FacestageError
            try:
                if self._worker is None:
                    self._worker = SequenceWorker(settings)
                outcome = self._worker.run(item)
            except FacestageError as error:
                outcome = error
            outcomes.append(pickle.dumps(outcome))
        return {"outcome": np.array(outcomes, object)}


def ray_slot(settings: Settings) -> tuple[Settings, dict[str, int]]:
    """Return the settings of an actor, and what it takes of the cluster: CPUs, and a GPU or none.

    >>> from pathlib import Path
    >>> from facestage.core.config import AnalyzerConfig
    >>> asked = Settings(Path("out"), {}, AnalyzerConfig(), "paper", device="cuda:1", threads=2)
    >>> settings, slot = ray_slot(asked)
    >>> settings.device, slot
    ('cuda', {'num_cpus': 2, 'num_gpus': 1})
    """
    gpu = settings.device.startswith("cuda")
    if gpu:
        settings = replace(settings, device="cuda")  # an actor sees only the one it was given
    return settings, {"num_cpus": settings.threads, "num_gpus": int(gpu)}


def check_slots(resources: Mapping[str, float], slot: Mapping[str, int], actors: int) -> None:
    """Check that a cluster can hold as many actors; Ray would wait for ever for what it lacks.

    Args:
        resources: what the cluster has, by Ray's names.
        slot: what an actor takes, as from :func:`ray_slot`.
        actors: how many of them.

    Raises:
        ConfigError: there is not enough of something.
    """
    for name, key in (("CPU", "num_cpus"), ("GPU", "num_gpus")):
        has, each = int(resources.get(name, 0)), slot[key]
        if has >= each * actors:
            continue
        room = has // each
        advice = f"use --workers {room}" if room else "use --device cpu"
        if name == "CPU":
            advice = f"use --workers {room}" if room else f"use --threads {max(has, 1)}"
        raise ConfigError(
            f"{actors} Ray workers with {each} {name} each need {each * actors}, the cluster has "
            f"{has}; {advice}"
        )


def on_ray(
    items: Sequence[SequenceItem],
    settings: Settings,
    workers: int,
    stop: Stop,
    address: str | None = None,
) -> Iterator[SequenceOutcome]:
    """Analyse with a pool of Ray actors, one per CPU or GPU slot.

    The output folder must be the same place for all machines of the cluster, and facestage must be
    installed on them.

    Raises:
        ConfigError: Ray or the cluster cannot be used.
        FacestageError: the model or the output folder cannot be used.
    """
    check_ray(address)
    import ray  # pyright: ignore[reportMissingImports]
    from ray.exceptions import RayError  # pyright: ignore[reportMissingImports]

    _start_ray(ray, settings, workers, address)
    try:
        for batch in _ray_batches(ray, items, settings, workers):
            for raw in batch["outcome"]:
                outcome = pickle.loads(raw)  # made by our own actor
                if isinstance(outcome, FacestageError):
                    raise outcome
                yield outcome
            if stop():
                return
    except RayError as error:
        raise ConfigError(f"Ray gave up: {_first_line(error)}; run again to go on") from error
    finally:
        ray.shutdown()


def _start_ray(ray: Any, settings: Settings, workers: int, address: str | None) -> None:
    """Start Ray on this machine or connect to a cluster.

    Raises:
        ConfigError: that fails.
    """
    try:
        if address is None:
            ray.init(
                num_cpus=workers * settings.threads, include_dashboard=False, log_to_driver=False,
                logging_level=logging.ERROR, configure_logging=True,
            )  # fmt: skip
        else:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        hint = ""
        if address is not None:
            hint = (
                f"; see that the cluster runs Ray {ray.__version__}, and set RAY_AUTH_MODE=token "
                "if it asks for a token"
            )
        raise ConfigError(f"Ray could not be started: {_first_line(error)}{hint}") from error


def _ray_batches(
    ray: Any, items: Sequence[SequenceItem], settings: Settings, workers: int
) -> Iterator[dict[str, Any]]:
    """Yield the batches of pickled outcomes as the actors finish them.

    Raises:
        ConfigError: the cluster has too few CPUs or GPUs.
    """
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    actors = min(workers, len(items))
    settings, slot = ray_slot(settings)
    check_slots(ray.cluster_resources(), slot, actors)
    rows = [{"job": pickle.dumps((settings, item))} for item in items]
    # One block per sequence: what is done is reported at once, and a free actor takes the next.
    results = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        _RayWorker,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=slot["num_cpus"],
        num_gpus=slot["num_gpus"],
    )
    yield from results.iter_batches(batch_size=None, prefetch_batches=0)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
