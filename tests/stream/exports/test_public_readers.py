"""What is written is read back by libraries of other people."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from facestage.core.errors import ConfigError
from facestage.stream.commands.export import run_export
from facestage.stream.commands.signatures import ExportOptions
from facestage.stream.exports.recording import read_recording
from facestage.stream.exports.tiers import samples, tiers

from tests.stream.exports.test_round_trips import MARKERS, folder, mark

__all__ = ["folder"]  # a fixture


def test_pympi_reads_the_elan_file(folder: Path) -> None:
    elan = pytest.importorskip("pympi", reason="needs pympi-ling").Elan
    mark(folder, MARKERS)
    (path,) = run_export(ExportOptions(folder=folder, to="elan"))
    file = elan.Eaf(str(path))
    wanted = {
        tier.name: [
            (
                round(s.start_s * 1000),
                max(round(s.end_s * 1000), round(s.start_s * 1000) + 1),
                s.text,
            )
            for s in tier.spans
        ]
        for tier in tiers(read_recording(folder))
    }
    assert set(file.get_tier_names()) == set(wanted)
    for name, spans in wanted.items():
        assert sorted(tuple(one[:3]) for one in file.get_annotation_data_for_tier(name)) == spans
    assert file.media_descriptors[0]["RELATIVE_MEDIA_URL"] == "./clip.mp4"


def test_pyedflib_reads_the_edf_file(folder: Path) -> None:
    pytest.importorskip("edfio", reason="needs edfio")
    pyedflib = pytest.importorskip("pyedflib", reason="needs pyedflib")
    mark(folder, MARKERS)
    (path,) = run_export(ExportOptions(folder=folder, to="edf"))
    recording = read_recording(folder)
    rate, found = samples(recording)
    with pyedflib.EdfReader(str(path)) as file:
        assert file.getSignalLabels() == [one.name for one in found]
        for number, one in enumerate(found):
            assert file.getSampleFrequency(number) == rate
            wanted = np.nan_to_num(one.values, nan=-1.0)
            step = (np.ceil(one.most) + 1) / 65535
            read = file.readSignal(number)[: len(wanted)]
            assert np.abs(read - wanted).max() <= step
        onsets, lengths, texts = file.readAnnotations()
    spans = sorted(
        (s.start_s, s.end_s - s.start_s, f"{tier.name}: {s.text}")
        for tier in tiers(recording)
        if not tier.name.startswith("AU")
        for s in tier.spans
    )
    told = sorted(
        (onset, max(0.0, length), text)
        for onset, length, text in zip(onsets, lengths, texts, strict=True)
    )
    assert [text for *_, text in told] == [text for *_, text in spans]
    assert np.allclose([t[:2] for t in told], [s[:2] for s in spans], atol=1e-4)


def test_a_score_that_can_be_negative_has_no_place_in_edf(tmp_path: Path) -> None:
    pytest.importorskip("edfio", reason="needs edfio")
    from dataclasses import replace

    from facestage.stream.exports.edf import edf_bytes
    from facestage.stream.exports.recording import Recording, ScoreTrack

    track = ScoreTrack("x", "-AU4", "", "", -5.0, 0.0, np.zeros(1), np.zeros(1), ())
    recording = Recording(
        "x", "m", 30.0, np.zeros(1), (4,), np.zeros((1, 1)), np.array([[""]]), (), (track,), ()
    )
    with pytest.raises(ConfigError, match="x low can be -1 or less"):
        edf_bytes(recording, [])
    assert edf_bytes(replace(recording, scores=()), [])[:8] == b"0       "


def test_fhir_resources_validates_the_bundle(folder: Path) -> None:
    observation = pytest.importorskip(
        "fhir.resources.R4B.observation", reason="needs fhir.resources"
    ).Observation
    bundle = pytest.importorskip("fhir.resources.R4B.bundle").Bundle
    (path,) = run_export(ExportOptions(folder=folder, to="fhir"))
    document = json.loads(path.read_text())
    bundle.model_validate(document)
    values = {one.name: one.values for one in samples(read_recording(folder))[1]}
    names = []
    for entry in document["entry"]:
        read = observation.model_validate(entry["resource"])
        names.append(read.code.text)
        assert read.status == "preliminary"
        for end, component in zip(("low", "high"), read.component, strict=True):
            data = component.valueSampledData
            assert float(data.period) == 100.0
            told = [np.nan if text == "E" else float(text) for text in data.data.split()]
            wanted = values[f"{read.code.text} {end}"]
            assert np.allclose(told, wanted, atol=1e-3, equal_nan=True)
    assert names == ["brow", "PSPI"]
    assert any(
        "a smile scores" in note["text"] for note in document["entry"][1]["resource"]["note"]
    )
    assert "coding" not in json.dumps(document)  # LOINC is for those who use it


def test_fhir_needs_a_score(folder: Path) -> None:
    manifest = folder / "temporal_prototype.json"
    document = json.loads(manifest.read_text())
    del document["scores"]
    manifest.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="hold no score; analyse the recording with --score"):
        run_export(ExportOptions(folder=folder, to="fhir"))
