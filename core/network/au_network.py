"""AU network: aligned grey crops → presence, intensity and landmarks (paper §3.1).

One multi-label convolutional network gives, per AU, a presence logit and an intensity. The
embedded one was trained on synthetic faces only, so it may be shipped; any ``nn.Module`` with a
:class:`ModelCard` can take its place. BatchNorm is folded when a network is loaded, and the very
same folded modules predict and are explained.

This is the only module of ``facestage.core`` that opens files.

References:
    Pahl, Rieger & Seuss, *Multi-label Learning with Missing Values using Combined Facial Action
    Unit Datasets*, 2020.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_safetensors
from torch import nn

from ..backend import arithmetic, upload
from ..errors import ConfigError, DeviceError, ModelError
from ..steps import step, timed
from .architectures import ARCHITECTURES, SplitHeads
from .card import LandmarkDecoding, ModelCard, Normalisation
from .folding import fold_batchnorm, frozen_copy
from .forks import note_use
from .packed_forward import PackedForward
from .recording import Recorder, Recording, padded_size

__all__ = [
    "ARCHITECTURES",
    "EMBEDDED",
    "AUNetwork",
    "LandmarkDecoding",
    "ModelCard",
    "Normalisation",
    "Prediction",
    "resolve_device",
]

EMBEDDED = Path(__file__).parents[1] / "weights" / "au_net_v1.safetensors"
"""The weights of the embedded network."""

RECORDED_CROPS = (1, 4, 16, 32)
"""The numbers of crops that a search for landmarks is padded to on a GPU."""

_Outputs = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """What the network sees in B crops.

    Attributes:
        presence: ``(B, A)`` float32, probability 0–1 that an AU is present.
        intensity: ``(B, A)`` float32, FACS intensity 0–5 (A–E are 1–5); None when the network
            has no intensity outputs.
        points: ``(B, 5, 2)`` float32 crop pixels (order of the card's ``template``); None when
            not asked for.
    """

    presence: NDArray[np.float32]
    intensity: NDArray[np.float32] | None
    points: NDArray[np.float32] | None = None


def resolve_device(spec: str) -> torch.device:
    """Turn a device option into a torch device that exists.

    Args:
        spec: ``auto`` (CUDA if there is any), ``cpu``, ``cuda`` or ``cuda:<index>``.

    Returns:
        The device.

    Raises:
        DeviceError: CUDA was asked for, but torch finds no such device.
        ConfigError: the text names no device.
    """
    if spec == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if spec == "cpu":
        return torch.device("cpu")
    kind, _, index = spec.partition(":")
    if kind != "cuda" or (":" in spec and not index.isdecimal()):
        raise ConfigError(f"unknown device {spec!r}; use auto, cpu, cuda or cuda:<index>")
    if not torch.cuda.is_available():
        raise DeviceError(
            f"device {spec!r} was asked for, but torch {torch.__version__} finds no CUDA device; "
            "use --device cpu, or install a CUDA build of torch and its driver"
        )
    count = torch.cuda.device_count()
    if index and int(index) >= count:
        raise DeviceError(
            f"device {spec!r} does not exist, this machine has {count}: use cuda:0 to "
            f"cuda:{count - 1}, or --device cpu"
        )
    return torch.device(spec)


class AUNetwork:
    """A loaded AU network on its device, in eval mode.

    :meth:`load` and :meth:`from_module` return one.

    Attributes:
        card: its model card.
        device: where it runs.
        logits_module: ``(B, 1, S, S)`` float32 → ``(B, A)`` presence logits, BatchNorm folded;
            it shares its layers with prediction, and it is what LRP explains.
    """

    def __init__(
        self,
        outputs: nn.Module,
        logits_module: nn.Module,
        card: ModelCard,
        device: torch.device,
    ) -> None:
        # oneDNN and cuDNN convolve small images faster in channels_last: 3.8 against 5.0 ms for
        # one crop, 17 against 33 ms for eight (one CPU thread).
        note_use()
        self._outputs = _channels_last(outputs.to(device)).eval()
        self.logits_module = _channels_last(logits_module.to(device)).eval()
        self._heads = outputs if isinstance(outputs, SplitHeads) else None
        self.card = card
        self.device = device
        self._recorder: Recorder | None = None
        self._recordings: dict[int, Recording] = {}
        self._packed = self._pack()

    def _pack(self) -> PackedForward | None:
        """Return the way forward on a CPU; None on a GPU."""
        if self.device.type != "cpu":
            return None
        return PackedForward(self._outputs, (1, self.card.input_size, self.card.input_size))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is made anew: recordings on a GPU, laid-out weights on a CPU."""
        return {**self.__dict__, "_recorder": None, "_recordings": {}, "_packed": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._packed = self._pack()

    @property
    def _forward(self) -> nn.Module:
        """What to run forward in inference mode; see :class:`PackedForward`."""
        return self._outputs if self._packed is None else self._packed()

    @property
    def reads_hidden(self) -> bool:
        """Whether :meth:`predict_from` can read all from one pass of ``logits_module``."""
        return self._heads is not None

    @property
    def name(self) -> str:
        """Name of the network, from its card."""
        return self.card.name

    @property
    def has_landmarks(self) -> bool:
        """Whether the network gives landmarks."""
        return self.card.landmarks is not None

    @classmethod
    def load(cls, path: str | Path | None = None, device: str = "auto") -> AUNetwork:
        """Load weights with the model card beside them.

        Args:
            path: a ``.safetensors`` file, its card a ``.json`` of the same stem in the same
                folder; None loads the embedded network. Nothing is ever unpickled.
            device: see :func:`resolve_device`.

        Returns:
            The network.

        Raises:
            ModelError: a file is missing, unreadable or damaged, or weights and card do not fit.
            DeviceError: the device does not exist.
            ConfigError: ``device`` names no device.
        """
        target = resolve_device(device)
        weights_path = EMBEDDED if path is None else Path(path)
        card = ModelCard.from_json(_read_card(weights_path))
        weights = _read_weights(weights_path, card)
        build = ARCHITECTURES.get(card.architecture)
        if build is None:
            raise ModelError(
                f"{weights_path.name}: unknown architecture {card.architecture!r} in its card, "
                f"known are {', '.join(sorted(ARCHITECTURES))}; build the module in code and use "
                "AUNetwork.from_module"
            )
        outputs = build(card, weights, weights_path.name)
        return cls(outputs, outputs.presence_logits(), card, target)

    @classmethod
    def from_module(cls, module: nn.Module, card: ModelCard, device: str = "auto") -> AUNetwork:
        """Use any network.

        Args:
            module: ``(B, 1, S, S)`` float32 normalised crops → presence logits ``(B, A)``, or a
                tuple (presence logits, intensity ``(B, A)``), or (presence logits, intensity or
                None, landmarks ``(B, 2·count)``). It is not changed; BatchNorm is folded in a
                copy.
            card: its model card.
            device: see :func:`resolve_device`.

        Returns:
            The network.

        Raises:
            ModelError: the outputs do not fit the card, or BatchNorm cannot be folded.
            DeviceError: the device does not exist.
            ConfigError: ``device`` names no device.
        """
        target = resolve_device(device)
        size = card.input_size
        # A fixed pseudo-random crop reaches every layer; zeros would hide wrong folding.
        example = torch.randn((2, 1, size, size), generator=torch.Generator().manual_seed(0))
        example = example.to(target)
        try:
            frozen = frozen_copy(module).to(target, torch.float32)
            with arithmetic(target):
                folded = fold_batchnorm(frozen, example)
            adapter = _Adapter(folded)
            with torch.inference_mode(), arithmetic(target):
                outputs = adapter(example)
        except RuntimeError as error:
            raise ModelError(
                f"{card.name}: the module does not accept crops of shape (B, 1, {size}, {size}): "
                f"{error}; correct the card's input size or the module"
            ) from error
        _check_outputs(outputs, card)
        return cls(adapter, _PresenceOnly(folded), card, target)

    @timed("upload")
    @torch.inference_mode()
    def prepare(self, crops: NDArray[np.uint8]) -> torch.Tensor:
        """Normalise crops for the network.

        Args:
            crops: ``(B, S, S)`` uint8 grey, aligned to the card's template; B may be 0.

        Returns:
            ``(B, 1, S, S)`` float32 on the network's device.

        Raises:
            ModelError: shape or type do not fit.
        """
        crops, size = self._checked(crops), self.card.input_size
        if not len(crops):
            return torch.empty((0, 1, size, size), device=self.device)
        return self.normalise(upload(torch.from_numpy(np.ascontiguousarray(crops)), self.device))

    def _checked(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size = self.card.input_size
        crops = np.asarray(crops)
        if crops.ndim != 3 or crops.shape[1:] != (size, size) or crops.dtype != np.uint8:
            raise ModelError(
                f"crops of shape {crops.shape} and type {crops.dtype} do not fit {self.name}, "
                f"which needs (B, {size}, {size}) uint8; align faces with its card's template"
            )
        return crops

    @torch.inference_mode()
    def normalise(self, crops: torch.Tensor) -> torch.Tensor:
        """Normalise crops that are on the device; nothing waits for it.

        Args:
            crops: ``(B, S, S)`` uint8 grey, aligned, B ≥ 1; not changed.

        Returns:
            ``(B, 1, S, S)`` float32.
        """
        normalisation = self.card.normalisation
        x = crops.float().div_(255.0)
        window = x[:, slice(*normalisation.rows), slice(*normalisation.cols)]
        std, mean = torch.std_mean(window, dim=(1, 2), keepdim=True)
        x = (x - mean).div_(std + normalisation.std_offset)
        return x.clamp_(-normalisation.clamp, normalisation.clamp).unsqueeze(1)

    def predict(self, crops: NDArray[np.uint8]) -> Prediction:
        """Predict presence and intensity in one forward pass.

        Args:
            crops: ``(B, S, S)`` uint8 grey, aligned; B may be 0.

        Returns:
            The prediction, without points.

        Raises:
            ModelError: shape or type of the crops do not fit.
        """
        return self.predict_prepared(self.prepare(crops))

    def predict_prepared(self, x: torch.Tensor, *, with_points: bool = False) -> Prediction:
        """Predict presence and intensity from input that is on the device already.

        Args:
            x: ``(B, 1, S, S)`` float32, what :meth:`prepare` returned.
            with_points: give the five points, too: the same pass finds them.

        Returns:
            The prediction.

        Raises:
            ModelError: points are asked for, but the network has no landmark head.
        """
        return self._prediction(x, with_points=with_points)

    @torch.inference_mode()
    def read(
        self,
        x: torch.Tensor,
        logits: torch.Tensor,
        hidden: torch.Tensor | None,
        features: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Read all that the network says on the device; nothing waits for it.

        Args:
            x: ``(B, 1, S, S)`` what :meth:`normalise` returned.
            logits: ``(B, A)`` output of ``logits_module``.
            hidden: ``(B, F)`` input of its last layer, if that is a dense one.
            features: ``(B, G)`` input of the dense layer before, if there is one.

        Returns:
            Presence ``(B, A)`` float32, 0–1; intensity ``(B, A)`` float32, 0–5, and landmarks
            ``(B, L, 2)`` float32, crop pixels, or None where the network has none.
        """
        with arithmetic(self.device):
            heads = self._heads
            if heads is not None and hidden is not None and features is not None:
                intensity, raw = heads.intensity(hidden), heads.landmarks(features)
            else:
                _, intensity, raw = self._outputs(x)
            presence, scaled = self._scaled(logits, intensity)
            found = raw is not None and self.has_landmarks
            return presence, scaled, self._decode(raw) if found else None

    @torch.inference_mode()
    def predict_from(
        self, logits: torch.Tensor, hidden: torch.Tensor, features: torch.Tensor | None = None
    ) -> Prediction:
        """Predict from a forward pass that has been run already.

        Args:
            logits: ``(B, A)`` output of ``logits_module``.
            hidden: ``(B, F)`` input of its last layer.
            features: ``(B, G)`` input of the dense layer before, for the five points.

        Returns:
            The prediction; without points where no ``features`` are given.

        Raises:
            ModelError: the network does not read intensity from it, see :attr:`reads_hidden`.
        """
        if self._heads is None:
            raise ModelError(f"{self.name} does not read intensity from its last hidden layer")
        with arithmetic(self.device):
            prediction = self._to_prediction(logits, self._heads.intensity(hidden))
            if features is None:
                return prediction
            points = self._decode(self._heads.landmarks(features))
        return replace(prediction, points=self.alignment_points(points.cpu().numpy()))

    def infer(self, crops: NDArray[np.uint8]) -> Prediction:
        """Predict presence, intensity and, given a landmark head, the five points at once.

        Args:
            crops: ``(B, S, S)`` uint8 grey, aligned; B may be 0.

        Returns:
            The prediction; ``points`` is None without a landmark head.

        Raises:
            ModelError: shape or type of the crops do not fit.
        """
        return self._prediction(self.prepare(crops), with_points=self.has_landmarks)

    @torch.inference_mode()
    def landmarks(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Find facial landmarks.

        Args:
            crops: ``(B, S, S)`` uint8 grey, aligned; B may be 0.

        Returns:
            ``(B, L, 2)`` float32 x, y in crop pixels (the embedded network: L = 68, Multi-PIE
            order).

        Raises:
            ModelError: the network has no landmark head, or the crops do not fit.
        """
        if self.device.type == "cuda" and len(crops):
            return self._recorded_landmarks(crops)
        x = self.prepare(crops)
        with step("forward"):
            module = self._forward
            split = isinstance(module, SplitHeads)
            points = self._decode(module.find_landmarks(x) if split else module(x)[2])
        with step("download"):
            return points.cpu().numpy()

    def record(self) -> None:
        """Record on a GPU what finds landmarks, so that no frame has to wait for it.

        On a CPU, and without a landmark head, nothing is recorded.
        """
        if self.device.type == "cuda" and self.has_landmarks:
            for count in RECORDED_CROPS:
                self._landmark_recording(count)

    def _recorded_landmarks(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        crops = self._checked(crops)
        found: list[NDArray[np.float32]] = []
        for start in range(0, len(crops), RECORDED_CROPS[-1]):
            some = crops[start : start + RECORDED_CROPS[-1]]
            (points,) = self._landmark_recording(padded_size(len(some), RECORDED_CROPS))([some])
            found.append(points[: len(some)])
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _landmark_recording(self, count: int) -> Recording:
        """Return what finds the landmarks of so many crops; it is recorded at its first use."""
        if count not in self._recordings:
            if self._recorder is None:
                self._recorder = Recorder(self.device)
            side = self.card.input_size

            @torch.inference_mode()
            def run(request: torch.Tensor) -> list[torch.Tensor]:
                with arithmetic(self.device):
                    raw = self._outputs(self.normalise(request.view(count, side, side)))[2]
                return [self._decode(raw)]

            self._recordings[count] = Recording(run, count * side * side, self._recorder, "forward")
        return self._recordings[count]

    def five_points(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Find the five alignment points.

        Args:
            crops: ``(B, S, S)`` uint8 grey, aligned; B may be 0.

        Returns:
            ``(B, 5, 2)`` float32 x, y in crop pixels, in the order of the card's ``template``.

        Raises:
            ModelError: the network has no landmark head, or the crops do not fit.
        """
        return self.alignment_points(self.landmarks(crops))

    @torch.inference_mode()
    def _prediction(self, x: torch.Tensor, *, with_points: bool) -> Prediction:
        with step("forward"), arithmetic(self.device):
            module, landmarks = self._forward, None
            if isinstance(module, SplitHeads) and not with_points:
                logits, intensity = module.find_aus(x)
            else:
                logits, intensity, landmarks = module(x)
        prediction = self._to_prediction(logits, intensity)
        if not with_points:
            return prediction
        return replace(
            prediction, points=self.alignment_points(self._decode(landmarks).cpu().numpy())
        )

    def _to_prediction(self, logits: torch.Tensor, intensity: torch.Tensor | None) -> Prediction:
        presence, scaled = self._scaled(logits, intensity)
        with step("download"):
            return Prediction(
                presence.cpu().numpy(), None if scaled is None else scaled.cpu().numpy(), None
            )

    def _scaled(
        self, logits: torch.Tensor, intensity: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return presence 0–1 and intensity 0–5, float32."""
        scaled = None
        if intensity is not None:
            scaled = (intensity * self.card.intensity_scale).clamp_(0.0, 5.0).float()
        return torch.sigmoid(logits).float(), scaled

    def _decode(self, raw: torch.Tensor | None) -> torch.Tensor:
        decoding = self.card.landmarks
        if decoding is None or raw is None:
            raise ModelError(
                f"{self.name} has no landmark head; give a face detector that finds five points "
                "(YuNet) instead"
            )
        side = self.card.input_size
        xy = (raw.float() * decoding.scale + decoding.offset) * side
        return xy.reshape(-1, decoding.count, 2)

    def alignment_points(self, landmarks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the five points of the alignment.

        Args:
            landmarks: ``(B, L, 2)`` float32 x, y in crop pixels, as :meth:`landmarks` gives them.

        Returns:
            ``(B, 5, 2)`` float32, in the order of the card's ``template``.

        Raises:
            ModelError: the card does not say which landmarks they are.
        """
        groups = self.card.five_points
        if groups is None:  # only in a card that was not read from JSON
            raise ModelError(
                f"the card of {self.name} does not say which landmarks are the five points; set "
                "its five_points"
            )
        return np.stack([landmarks[:, list(group)].mean(axis=1) for group in groups], axis=1)


class _Adapter(nn.Module):
    """Turns any accepted form of output into (presence, intensity or None, landmarks or None)."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> _Outputs:
        output = self.module(x)
        parts = tuple(output) if isinstance(output, (tuple, list)) else (output,)
        presence, intensity, landmarks = (*parts, None, None)[:3]
        if not isinstance(presence, torch.Tensor):
            raise ModelError(
                f"the module returned {type(presence).__name__} instead of a tensor of presence "
                "logits; return that, or a tuple that begins with it"
            )
        return presence, intensity, landmarks


class _PresenceOnly(nn.Module):
    """The presence logits of a network with several outputs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = self.module(x)
        return output[0] if isinstance(output, (tuple, list)) else output


def _channels_last(module: nn.Module) -> nn.Module:
    """Turn convolution weights to channels_last, in place; activations follow the weights."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def _read_card(weights_path: Path) -> str:
    if weights_path.suffix != ".safetensors":
        raise ModelError(
            f"{weights_path} is not a .safetensors file; pickled weights (.pt, .pth) can run code "
            "and are never opened: convert them with safetensors.torch.save_file"
        )
    if not weights_path.is_file():
        raise ModelError(f"no weights at {weights_path}; check the path")
    card_path = weights_path.with_suffix(".json")
    try:
        return card_path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ModelError(
            f"no model card at {card_path}; put the card that came with the weights beside them"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"the model card {card_path} cannot be read: {error}") from error


def _read_weights(path: Path, card: ModelCard) -> dict[str, torch.Tensor]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"the weights {path} cannot be read: {error}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.sha256:
        raise ModelError(
            f"{path} has sha256 {digest[:12]}…, its card says {card.sha256[:12]}…: the file is "
            "damaged or belongs to another card; fetch both again"
        )
    try:
        weights = load_safetensors(data)
    except (safetensors.SafetensorError, ValueError) as error:
        raise ModelError(
            f"{path} is not a readable safetensors file ({error}); save it again"
        ) from error
    broken = [key for key, value in weights.items() if not torch.isfinite(value).all()]
    if broken:
        raise ModelError(
            f"{path} holds values that are not finite in {broken[0]}; train or export it again"
        )
    return weights


def _check_outputs(outputs: _Outputs, card: ModelCard) -> None:
    presence, intensity, landmarks = outputs
    expected = (2, len(card.aus))
    for what, tensor in (("presence", presence), ("intensity", intensity)):
        if tensor is not None and tuple(tensor.shape) != expected:
            raise ModelError(
                f"{card.name}: the module gives {what} of shape {tuple(tensor.shape)} for two "
                f"crops, but the card lists {expected[1]} AUs; correct the AU list or the module"
            )
    count = 0 if landmarks is None else landmarks[0].numel()
    expected_count = 0 if card.landmarks is None else 2 * card.landmarks.count
    if count != expected_count:
        raise ModelError(
            f"{card.name}: the module gives {count} landmark values, the card says "
            f"{expected_count}; "
            "correct the card's landmarks or the module"
        )
