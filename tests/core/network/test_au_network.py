"""AU network: card, weights, folding; predictions against an independent reading of the file."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from facestage.core import lrp
from facestage.core.errors import ConfigError, DeviceError, ModelError
from facestage.core.network.architectures import au_net
from facestage.core.network.au_network import EMBEDDED, AUNetwork, ModelCard, resolve_device
from facestage.core.network.folding import fold_batchnorm, frozen_copy
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

CARD = json.loads(EMBEDDED.with_suffix(".json").read_text())
GRADES = {str(au): "A" for au in CARD["aus"]}


@pytest.fixture(scope="module")
def net() -> AUNetwork:
    return AUNetwork.load(device="cpu")


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (5, 96, 96), dtype=np.uint8)


def card(**changes: Any) -> dict[str, Any]:
    """The embedded card without what was measured per AU; ``input__size=…`` changes a field."""
    changed = json.loads(json.dumps(CARD))
    for measured in ("grades", "neutral", "rise", "evaluation"):
        changed.pop(measured, None)
    changed["thresholds"]["per_au"] = {}
    for path, value in changes.items():
        *parents, leaf = path.split("__")
        part = changed
        for parent in parents:
            part = part[parent]
        part[leaf] = value
    return changed


def by_hand(crops: NDArray[np.uint8]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, intensity/5 and raw landmarks straight from the weights, BatchNorm unfolded."""
    w = load_file(EMBEDDED)
    x = torch.from_numpy(crops.astype(np.float64) / 255)[:, None]
    window = x[:, :, 12:88, 14:82].reshape(len(x), -1).numpy()
    mean = torch.from_numpy(window.mean(axis=1)).reshape(-1, 1, 1, 1)
    std = torch.from_numpy(window.std(axis=1, ddof=1)).reshape(-1, 1, 1, 1)
    x = ((x - mean) / (std + 0.02)).clamp(-3, 3)
    for conv, pool_before in zip((0, 3, 7, 10, 14, 17, 21), (0, 0, 1, 0, 1, 0, 1), strict=True):
        if pool_before:
            x = F.max_pool2d(x, 2)
        kernel = w[f"features.{conv}.weight"].double()
        stride, padding = (2, 2) if conv == 0 else (1, kernel.shape[-1] // 2)
        x = F.conv2d(x, kernel, stride=stride, padding=padding)
        norm = {
            k: w[f"features.{conv + 1}.{k}"].double().reshape(1, -1, 1, 1)
            for k in ("running_mean", "running_var", "weight", "bias")
        }
        x = (x - norm["running_mean"]) / torch.sqrt(norm["running_var"] + 1e-5)
        x = F.relu(x * norm["weight"] + norm["bias"])
    flat = x.flatten(1)
    zones = au_net(CARD["aus"])  # only for which inputs each unit reads
    hidden = F.relu(read(flat, w, "hidden", zones.hidden.reads))
    return (
        read(hidden, w, "presence", zones.presence.reads),
        read(hidden, w, "intensity", zones.intensity.reads),
        flat @ w["landmarks.weight"].double().T + w["landmarks.bias"].double(),
    )


def read(
    x: torch.Tensor, w: dict[str, torch.Tensor], layer: str, reads: torch.Tensor
) -> torch.Tensor:
    weight = w[f"{layer}.weight"].double().masked_fill(reads == 0, 0)
    return x @ weight.T + w[f"{layer}.bias"].double()


# ------------------------------------------------------------------------------- embedded network


def test_embedded_network_predicts_what_its_weights_say(
    net: AUNetwork, crops: NDArray[np.uint8]
) -> None:
    logits, fifth, raw = by_hand(crops)
    prediction = net.infer(crops)
    assert prediction.presence.dtype == np.float32
    np.testing.assert_allclose(prediction.presence, torch.sigmoid(logits), atol=1e-5)
    np.testing.assert_allclose(prediction.intensity, (fifth * 5).clamp(0, 5), atol=1e-4)
    landmarks = (raw.reshape(-1, 68, 2).numpy() / 4 + 0.5) * 96
    np.testing.assert_allclose(net.landmarks(crops), landmarks, atol=1e-3)
    five = np.stack(
        [
            landmarks[:, 36:42].mean(axis=1),
            landmarks[:, 42:48].mean(axis=1),
            landmarks[:, 30],
            landmarks[:, 48],
            landmarks[:, 54],
        ],
        axis=1,
    )
    np.testing.assert_allclose(net.five_points(crops), five, atol=1e-3)
    np.testing.assert_allclose(prediction.points, five, atol=1e-3)


def test_the_explained_module_is_the_one_that_predicts(
    net: AUNetwork, crops: NDArray[np.uint8]
) -> None:
    with torch.no_grad():
        logits = net.logits_module(net.prepare(crops))
    # Prediction lays the weights out, so sums are rounded in another order.
    expected = torch.sigmoid(logits).numpy()
    np.testing.assert_allclose(net.predict(crops).presence, expected, rtol=0, atol=1e-6)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.logits_module.modules())


def test_all_outputs_can_be_read_from_a_pass_that_is_explained(
    net: AUNetwork, crops: NDArray[np.uint8]
) -> None:
    forwarded = lrp.forward(net.logits_module, net.prepare(crops))
    assert net.reads_hidden
    assert forwarded is not None
    assert forwarded.hidden is not None
    prediction, expected = net.predict_from(forwarded.logits, forwarded.hidden), net.predict(crops)
    np.testing.assert_allclose(prediction.presence, expected.presence, atol=1e-5)
    np.testing.assert_allclose(prediction.intensity, expected.intensity, atol=1e-4)
    assert prediction.points is None
    with_points = net.predict_from(forwarded.logits, forwarded.hidden, forwarded.features)
    np.testing.assert_allclose(with_points.points, net.five_points(crops), atol=1e-2)
    prepared = net.predict_prepared(net.prepare(crops), with_points=True)
    np.testing.assert_allclose(prepared.points, net.five_points(crops), atol=1e-2)
    without_hidden = AUNetwork.from_module(
        net.logits_module, replace(net.card, landmarks=None), "cpu"
    )
    assert not without_hidden.reads_hidden
    with pytest.raises(ModelError, match="hidden layer"):
        without_hidden.predict_from(forwarded.logits, forwarded.hidden)


def test_predict_and_infer_agree_and_a_batch_is_its_rows(
    net: AUNetwork, crops: NDArray[np.uint8]
) -> None:
    whole, alone = net.infer(crops), net.predict(crops[3:4])
    assert net.predict(crops).points is None
    np.testing.assert_allclose(whole.presence[3:4], alone.presence, atol=1e-6)
    np.testing.assert_allclose(whole.intensity[3:4], alone.intensity, atol=1e-5)


def test_an_empty_batch_gives_empty_results(net: AUNetwork) -> None:
    prediction = net.infer(np.empty((0, 96, 96), np.uint8))
    assert prediction.presence.shape == (0, 23)
    assert prediction.intensity is not None
    assert prediction.intensity.shape == (0, 23)
    assert prediction.points is not None
    assert prediction.points.shape == (0, 5, 2)
    assert net.landmarks(np.empty((0, 96, 96), np.uint8)).shape == (0, 68, 2)


def test_a_flat_crop_gives_finite_numbers(net: AUNetwork) -> None:
    prediction = net.infer(np.full((1, 96, 96), 7, np.uint8))
    assert np.isfinite(prediction.presence).all()
    assert net.prepare(np.full((1, 96, 96), 7, np.uint8)).abs().max() == 0


def test_crops_are_not_changed_and_may_be_views(net: AUNetwork, crops: NDArray[np.uint8]) -> None:
    before = crops.copy()
    strided = crops[:, ::-1]
    np.testing.assert_allclose(
        net.predict(strided).presence, net.predict(strided.copy()).presence, atol=1e-7
    )
    np.testing.assert_array_equal(crops, before)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((96, 96), np.uint8),
        np.zeros((1, 95, 96), np.uint8),
        np.zeros((1, 96, 96), np.float32),
        np.zeros((1, 1, 96, 96), np.uint8),
    ],
)
def test_crops_that_do_not_fit_are_refused(net: AUNetwork, wrong: NDArray[Any]) -> None:
    with pytest.raises(ModelError, match="uint8"):
        net.predict(wrong)


def test_template_is_the_training_template_seen_in_the_crop(net: AUNetwork) -> None:
    trained = np.array([[45.5, 49], [82.5, 49], [64, 71], [49, 92], [79, 92]])
    expected = (trained - [64, 66]) * 96 / 116 + [48, 47]
    np.testing.assert_allclose(net.card.template, expected, atol=1e-3)


# --------------------------------------------------------------------------------- loading errors


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    shutil.copyfile(EMBEDDED, path)
    path.with_suffix(".json").write_text(json.dumps(CARD))
    return path


def save(path: Path, weights: dict[str, torch.Tensor], **changes: Any) -> None:
    save_file(weights, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(card(sha256=digest, **changes)))


def test_weights_load_from_any_folder(copied: Path, crops: NDArray[np.uint8]) -> None:
    ours, theirs = AUNetwork.load(copied, device="cpu"), AUNetwork.load(device="cpu")
    np.testing.assert_array_equal(ours.predict(crops).presence, theirs.predict(crops).presence)


def test_missing_files_are_named(copied: Path) -> None:
    with pytest.raises(ModelError, match=r"no weights at .*other\.safetensors"):
        AUNetwork.load(copied.with_name("other.safetensors"))
    copied.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match=r"no model card at .*net\.json"):
        AUNetwork.load(copied)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "exploded").touch, ())

    path = tmp_path / "net.pt"
    path.write_bytes(pickle.dumps(Bomb()))
    path.with_suffix(".json").write_text(json.dumps(CARD))
    with pytest.raises(ModelError, match="never opened"):
        AUNetwork.load(path)
    disguised = tmp_path / "net.safetensors"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    disguised.write_bytes(path.read_bytes())
    disguised.with_suffix(".json").write_text(json.dumps(card(sha256=digest)))
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        AUNetwork.load(disguised)
    assert not (tmp_path / "exploded").exists()


def test_damaged_weights_are_noticed_by_their_hash(copied: Path) -> None:
    data = bytearray(copied.read_bytes())
    data[-1] ^= 1
    copied.write_bytes(data)
    with pytest.raises(ModelError, match="sha256"):
        AUNetwork.load(copied)


def test_an_au_list_that_does_not_fit_is_named(copied: Path) -> None:
    copied.with_suffix(".json").write_text(json.dumps(card(aus=[1, 2, 4])))
    with pytest.raises(ModelError, match=r"23 presence outputs.*3 AUs"):
        AUNetwork.load(copied)


def test_weights_of_another_shape_are_named(copied: Path) -> None:
    weights = load_file(EMBEDDED)
    weights["features.7.weight"] = weights["features.7.weight"][:, :20].contiguous()
    del weights["landmarks.bias"]
    weights["features.99.weight"] = torch.zeros(1)
    save(copied, weights)
    with pytest.raises(
        ModelError,
        match=r"landmarks\.bias is missing.*features\.99\.weight is not part.*\(48, 20, 3, 3\)",
    ):
        AUNetwork.load(copied)


def test_weights_that_are_not_finite_are_refused(copied: Path) -> None:
    weights = load_file(EMBEDDED)
    weights["features.7.weight"][0, 0, 0, 0] = float("nan")
    save(copied, weights)
    with pytest.raises(ModelError, match=r"not finite in features\.7\.weight"):
        AUNetwork.load(copied)


def test_an_unknown_architecture_is_named(copied: Path) -> None:
    copied.with_suffix(".json").write_text(json.dumps(card(architecture="resnet9000")))
    with pytest.raises(ModelError, match="resnet9000"):
        AUNetwork.load(copied)


# --------------------------------------------------------------------------------------------- card


def test_thresholds_have_defaults_and_overrides() -> None:
    changed = ModelCard.from_json(card(thresholds__per_au={"12": {"on": 0.7}, "4": {"off": 0.1}}))
    on, off = changed.thresholds()
    where = {au: i for i, au in enumerate(changed.aus)}
    assert (on[where[12]], off[where[12]]) == (
        np.float32(0.7),
        np.float32(CARD["thresholds"]["off"]),
    )
    assert off[where[4]] == np.float32(0.1)
    assert on.shape == (23,)
    assert changed.on[1] == CARD["thresholds"]["on"]


def test_grades_and_facts_are_optional_and_cannot_be_changed() -> None:
    bare = card()
    for name in ("grades", "neutral", "rise", "data", "recipe", "evaluation", "notice"):
        bare.pop(name, None)
    plain = ModelCard.from_json(bare)
    assert (plain.grades, plain.neutral, plain.data, plain.notice) == ({}, {}, {}, "")
    np.testing.assert_allclose(plain.neutral_logits(), np.log(0.1 / 0.9), rtol=1e-6)
    assert np.isnan(plain.rises()).all()

    figures = {"12": {"auc": 0.9, "real_r": None}, "clips": ["a", "b"]}
    changed = ModelCard.from_json(
        card(
            grades=GRADES | {"4": "B"},
            neutral={"12": -3.5},
            rise={"12": 1.5},
            evaluation=figures,
            recipe={"seed": 7},
            notice="Copyright",
        )
    )
    assert (changed.grades[12], changed.grades[4]) == ("A", "B")
    where = changed.aus.index(12)
    assert changed.neutral_logits()[where] == np.float32(-3.5)
    assert changed.rises()[where] == np.float32(1.5)
    assert np.isnan(changed.rises()).sum() == len(changed.aus) - 1
    assert changed.neutral_logits()[where - 1] == plain.neutral_logits()[0]
    assert changed.evaluation == {"12": {"auc": 0.9, "real_r": None}, "clips": ("a", "b")}
    for mapping in (changed.grades, changed.recipe, changed.evaluation["12"]):
        with pytest.raises(TypeError):
            mapping["x"] = 1  # type: ignore[index]
    assert pickle.loads(pickle.dumps(changed)).evaluation == changed.evaluation


def test_a_card_reads_the_same_from_text_and_object() -> None:
    a, b = ModelCard.from_json(json.dumps(CARD)), ModelCard.from_json(CARD)
    assert (a.name, a.aus, a.on, a.five_points) == (b.name, b.aus, b.on, b.five_points)
    np.testing.assert_array_equal(a.template, b.template)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"schema": "facestage.model-card/9"}, "schema"),
        ({"aus": [4, 2, 1]}, "aus"),
        ({"aus": [1, 2, 2]}, "aus"),
        ({"aus": [1, 98]}, "aus"),
        ({"aus": []}, "aus"),
        ({"aus": "12"}, "aus"),
        ({"name": ""}, "name"),
        ({"input__size": "96"}, "input.size"),
        ({"input__template": [[1, 2]]}, "input.template"),
        ({"input__template": [[1, 2]] * 4 + [[1, float("nan")]]}, "input.template"),
        ({"input__template_weights": [1, 1, 1, 1, -1]}, "input.template_weights"),
        ({"input__normalisation__rows": [12, 97]}, "input.normalisation.rows"),
        ({"input__normalisation__cols": [12]}, "input.normalisation.cols"),
        ({"input__normalisation__std_offset": 0}, "input.normalisation.std_offset"),
        ({"thresholds__on": 1.5}, "thresholds.on"),
        ({"thresholds__off": 0.9}, "thresholds.off"),
        ({"thresholds__per_au": {"3": {"on": 0.5}}}, "thresholds.per_au.3"),
        ({"thresholds__per_au": {"4": {"on": True}}}, "thresholds.per_au.4.on"),
        ({"landmarks__count": 68.5}, "landmarks.count"),
        ({"five_points": [[1], [2], [3], [4]]}, "five_points"),
        ({"five_points": [[1], [2], [3], [4], [68]]}, "five_points"),
        ({"box_points": {"haar": [[0.1, 0.2]]}}, "box_points.haar"),
        ({"sha256": "abc"}, "sha256"),
        ({"limits": "none"}, "limits"),
        ({"intensity": None}, "intensity"),
        ({"grades": ["A"]}, "grades"),
        ({"grades": {"12": "A"}}, "grades"),
        ({"grades": GRADES | {"12": "D"}}, "grades.12"),
        ({"grades": GRADES | {"12": ["A"]}}, "grades.12"),
        ({"grades": GRADES | {"3": "A"}}, "grades.3"),
        ({"grades": GRADES | {"012": "A"}}, "grades.012"),
        ({"neutral": {"12": "low"}}, "neutral.12"),
        ({"neutral": {"3": -2.0}}, "neutral.3"),
        ({"neutral": None}, "neutral"),
        ({"rise": {"12": -1.0}}, "rise.12"),
        ({"rise": {"3": 1.0}}, "rise.3"),
        ({"data": "renders"}, "data"),
        ({"recipe": ["adamw"]}, "recipe"),
        ({"evaluation": {"12": {"auc": float("nan")}}}, "evaluation"),
        ({"notice": ""}, "notice"),
    ],
)
def test_a_wrong_card_names_its_field(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError) as caught:
        ModelCard.from_json(card(**changes))
    assert repr(named) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", b"\xff", "null"])
def test_a_card_that_is_no_json_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(ModelError, match="model card"):
        ModelCard.from_json(text)


def test_a_missing_field_is_named() -> None:
    changed = card()
    del changed["input"]["template_weights"]
    with pytest.raises(ModelError, match=r"template_weights.*missing"):
        ModelCard.from_json(changed)


# ------------------------------------------------------------------------------------- own modules


def small_card(**changes: Any) -> ModelCard:
    changed = card(aus=[1, 12], input__size=32, **changes)
    changed["input"]["normalisation"] |= {"rows": [2, 30], "cols": [2, 30]}
    changed["input"]["template"] = [[10, 10], [20, 10], [16, 16], [12, 24], [20, 24]]
    del changed["landmarks"], changed["five_points"]
    return ModelCard.from_json(changed)


class Small(nn.Module):
    """A network whose BatchNorms are registered before the layers that feed them."""

    def __init__(self, heads: int = 1, outputs: int = 2) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4, eps=1e-2)
        self.norm_dense = nn.BatchNorm1d(6, affine=False)
        self.conv = nn.Conv2d(1, 4, 3, stride=2)
        self.dense = nn.Linear(4, 6, bias=False)
        self.out = nn.ModuleList(nn.Linear(6, outputs) for _ in range(heads))
        for norm in (self.norm, self.norm_dense):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.2, 3)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, x: torch.Tensor) -> Any:
        x = F.relu(self.norm(self.conv(x))).mean((2, 3))
        x = F.relu(self.norm_dense(self.dense(x)))
        outputs = tuple(head(x) for head in self.out)
        return outputs[0] if len(outputs) == 1 else outputs


@pytest.mark.parametrize("heads", [1, 2])
def test_any_module_can_take_the_networks_place(heads: int) -> None:
    torch.manual_seed(0)
    module = Small(heads)
    crops = np.random.default_rng(0).integers(0, 256, (3, 32, 32), dtype=np.uint8)
    net = AUNetwork.from_module(module, small_card(), device="cpu")
    prediction = net.infer(crops)
    with torch.no_grad():
        outputs = module.eval()(net.prepare(crops))
    logits = outputs if heads == 1 else outputs[0]
    np.testing.assert_allclose(prediction.presence, torch.sigmoid(logits), atol=1e-5)
    if heads == 1:
        assert prediction.intensity is None
    else:
        np.testing.assert_allclose(prediction.intensity, (outputs[1] * 5).clamp(0, 5), atol=1e-4)
    assert prediction.points is None
    assert not net.has_landmarks
    with pytest.raises(ModelError, match="landmark head"):
        net.five_points(crops)


def test_the_given_module_stays_as_it_was() -> None:
    torch.manual_seed(0)
    module = Small().train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    AUNetwork.from_module(module, small_card(), device="cpu")
    assert module.training
    assert isinstance(module.norm, nn.BatchNorm2d)
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_module_whose_outputs_do_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match=r"\(2, 3\).*2 AUs"):
        AUNetwork.from_module(Small(outputs=3), small_card(), device="cpu")
    with pytest.raises(ModelError, match="does not accept crops"):
        AUNetwork.from_module(nn.Linear(5, 2), small_card(), device="cpu")


class Unnamed(nn.Module):
    """Returns its logits in a dictionary."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": x.flatten(1)[:, :2]}


def test_a_module_that_returns_no_tensor_is_refused() -> None:
    with pytest.raises(ModelError, match="returned dict instead of a tensor of presence logits"):
        AUNetwork.from_module(Unnamed(), small_card(), device="cpu")


def test_a_card_made_in_code_without_five_points_gives_landmarks_only(
    net: AUNetwork, crops: NDArray[np.uint8]
) -> None:
    card_without = replace(net.card, five_points=None)
    landmarks_only = AUNetwork(net._outputs, net.logits_module, card_without, net.device)
    np.testing.assert_array_equal(landmarks_only.landmarks(crops), net.landmarks(crops))
    with pytest.raises(ModelError, match="does not say which landmarks are the five points"):
        landmarks_only.five_points(crops)


# ----------------------------------------------------------------------------------------- folding


def test_folding_leaves_the_function_and_removes_every_batchnorm() -> None:
    torch.manual_seed(1)
    module = Small().eval()
    x = torch.randn(8, 1, 32, 32)
    folded = fold_batchnorm(module, torch.randn(2, 1, 32, 32))
    assert not any("BatchNorm" in type(m).__name__ for m in folded.modules())
    with torch.no_grad():
        expected, got = module(x), folded(x)
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_folding_counts_eps() -> None:
    # With a running variance of 0 everything depends on eps.
    module = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.25))
    norm = module[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_var is not None
    norm.running_var.zero_()
    with torch.no_grad():
        module[0].weight.fill_(3.0)
        module[0].bias.fill_(1.0)
    folded = fold_batchnorm(module, torch.randn(2, 1, 4, 4))
    conv = folded[0]
    assert conv.weight.item() == pytest.approx(3.0 / 0.5)
    assert conv.bias.item() == pytest.approx(1.0 / 0.5)


class _Preactivation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(x))


class _Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)
        nn.init.constant_(self.norm.weight, 2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return self.norm(y) + y


def test_batchnorm_that_cannot_be_folded_is_an_error() -> None:
    example = torch.randn(2, 1, 8, 8)
    with pytest.raises(ModelError, match="'norm'"):
        fold_batchnorm(_Preactivation(), example)
    with pytest.raises(ModelError, match="changes the output"):
        fold_batchnorm(_Skip(), example)
    with pytest.raises(ModelError, match="running statistics"):
        fold_batchnorm(
            nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, track_running_stats=False)), example
        )


def test_a_frozen_copy_shares_weights_but_not_structure() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Dropout())
    twin = frozen_copy(module)
    with torch.no_grad():
        module[0].weight.fill_(5.0)
    assert twin[0].weight[0, 0] == 5.0
    assert not twin[0].weight.requires_grad
    assert module.training
    assert not twin.training


# ----------------------------------------------------------------------------------------- devices


def test_devices_are_resolved() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == expected


@pytest.mark.parametrize("spec", ["", "graphics", "cuda:", "cuda:x", "CPU", "cuda:-1", "mps"])
def test_unknown_devices_are_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="unknown device"):
        resolve_device(spec)


def test_cuda_without_cuda_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="--device cpu"):
        AUNetwork.load(device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(DeviceError, match="has 2"):
        resolve_device("cuda:2")


@pytest.mark.gpu
def test_cuda_predicts_what_the_cpu_predicts(net: AUNetwork, crops: NDArray[np.uint8]) -> None:
    cuda = AUNetwork.load(device="cuda")
    np.testing.assert_allclose(cuda.predict(crops).presence, net.predict(crops).presence, atol=2e-3)
