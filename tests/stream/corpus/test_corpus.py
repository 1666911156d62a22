"""``facestage corpus`` end to end on a corpus in the true layout of CK+, made from the demo clip.

Nothing here depends on what the network sees: every figure is computed a second time from what the
run left behind, and what must recur recurs because the frames are the same.
"""

from __future__ import annotations

import asyncio
import csv
import errno
import html
import itertools
import json
import math
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from facestage.core.errors import ConfigError
from facestage.stream import cli
from facestage.stream.commands.corpus import parse_shard
from facestage.stream.commands.options import analyzer_config
from facestage.stream.corpus import engines, store
from facestage.stream.corpus.job import SequenceOutcome, Settings
from facestage.stream.datasets.sequences import SequenceItem

from tests.support import crashing_worker
from tests.support.chromium import find_chromium, open_page
from tests.support.ckplus_corpus import COPIES, Made, make_ckplus

pytestmark = [pytest.mark.xdist_group("corpus"), pytest.mark.timeout(1800)]

Stages = tuple[tuple[str, ...], ...]
OPTIONS = ("--detector", "ours", "--device", "cpu", "--threads", "1", "--paper")


def call(*args: object) -> int:
    """Run the command line in this process; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["facestage", "corpus", *map(str, args)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
    code = stop.value.code
    return code if isinstance(code, int) else 1


def analyse(root: Path, out: Path, *options: object) -> None:
    assert call(root, "--layout", "ckplus", "--out", out, *OPTIONS, *options) == 0


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Made]]:
    root = tmp_path_factory.mktemp("ckplus")
    return root, make_ckplus(root, per_label=8, unlabelled=6)


@pytest.fixture(scope="session")
def evaluated(corpus: tuple[Path, list[Made]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole corpus, by two worker processes."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    analyse(corpus[0], out, "--workers", 2, "--no-reports", "--global", "--min-support", 0.08)
    return out


@pytest.fixture(scope="session")
def small(
    corpus: tuple[Path, list[Made]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Five sequences with reports, in this process: the corpus and what was made of it."""
    root = tmp_path_factory.mktemp("small")
    chosen = [("S006", "001"), ("S006", "002"), ("S016", "003"), ("S900", "001"), ("S017", "001")]
    for part in ("cohn-kanade-images", "Emotion", "FACS"):
        for place in chosen:
            source = corpus[0].joinpath(part, *place)
            if source.is_dir():
                shutil.copytree(source, root.joinpath(part, *place))
    out = tmp_path_factory.mktemp("small-out") / "out"
    analyse(root, out, "--workers", 1)
    return root, out


def sequences(out: Path) -> dict[str, Stages]:
    return {
        path.parent.name: tuple(map(tuple, json.loads(path.read_text())["stages"]))
        for path in sorted(out.glob("sequences/*/sequence.json"))
    }


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def written(stages: Stages) -> str:
    return " → ".join(f"({', '.join(stage)})" for stage in stages)


def bare(stages: Stages) -> Stages:
    """Drop the letters and join equal neighbours: written anew, from the text."""
    dropped = [tuple(re.sub("_[A-Z]+$", "", label) for label in stage) for stage in stages]
    return tuple(s for n, s in enumerate(dropped) if n == 0 or dropped[n - 1] != s)


def holds(outer: Sequence[Sequence[str]], inner: Sequence[Sequence[str]]) -> bool:
    """Inclusion by recursion, unlike the product's single pass."""
    if not inner:
        return True
    return any(
        set(inner[0]) - {"NONE"} <= set(stage) - {"NONE"} and holds(outer[n + 1 :], inner[1:])
        for n, stage in enumerate(outer)
    )


def by_letters(out: Path, use: str) -> dict[str, Stages]:
    if use == "sequence":
        return sequences(out)
    if use == "none":
        return {name: bare(stages) for name, stages in sequences(out).items()}
    made: dict[str, list[tuple[str, ...]]] = {}
    for row in rows(out / "stages.csv"):
        if row["letters"] == "corpus":
            made.setdefault(row["name"], []).append(tuple(row["labels"].split("+")))
    return {name: tuple(stages) for name, stages in made.items()}


# --- what was analysed ----------------------------------------------------------------------------


def test_every_sequence_is_done_or_has_a_reason(
    corpus: tuple[Path, list[Made]], evaluated: Path
) -> None:
    manifest = {row["name"]: row for row in rows(evaluated / "manifest.csv")}
    made = {m.name: m for m in corpus[1]}
    assert len(made) >= 60
    assert set(manifest) == {*made, "S900_001", "S901_001"}
    for name, m in made.items():
        row = manifest[name]
        assert (row["state"], row["label"], row["frames"]) == ("done", m.label, str(m.frames))
        assert row["subject"] == name[:4]
        assert row["coded_aus"] in ("", "AU12 AU25")
    broken, faceless = manifest["S900_001"], manifest["S901_001"]
    assert (broken["state"], faceless["state"]) == ("failed", "failed")
    assert "1 of 10 pictures cannot be decoded" in broken["reason"]
    assert "no usable face in any of the 10 frames" in faceless["reason"]


def test_stages_cover_each_sequence(evaluated: Path) -> None:
    lengths = []
    for name, stages in sequences(evaluated).items():
        document = json.loads((evaluated / "sequences" / name / "sequence.json").read_text())
        assert len(stages) == len(document["seconds"]) <= document["frames"]
        assert sum(document["seconds"]) == pytest.approx(document["frames"] / 30, abs=0.01)
        assert all(a != b for a, b in itertools.pairwise(stages))
        lengths.append(len(stages))
    assert max(lengths) > 2  # there is something to evaluate


# --- Table 1 --------------------------------------------------------------------------------------


def figures_of(names: list[str], prototypes: dict[str, Stages], frames: dict[str, int]):  # type: ignore[no-untyped-def]
    chosen = [prototypes[name] for name in names]
    most, count = min(Counter(chosen).items(), key=lambda pair: (-pair[1], len(pair[0]), pair[0]))
    return {
        "unique": len({written(p) for p in chosen}),
        "mean_stages": statistics.fmean(len(p) for p in chosen),
        "mean_reduction": statistics.fmean(
            (frames[n] - len(prototypes[n])) / frames[n] for n in names
        ),
        "most_common": written(most),
        "most_common_count": count,
    }


def test_every_figure_of_table_1(corpus: tuple[Path, list[Made]], evaluated: Path) -> None:
    table = {row["label"]: row for row in rows(evaluated / "table1.csv")}
    made = corpus[1]
    frames = {m.name: m.frames for m in made}
    groups = {m.label: [x.name for x in made if x.label == m.label] for m in made}
    heads = {**{k or "no label": v for k, v in groups.items()}, "entire corpus": list(frames)}
    assert list(table) == [*sorted(k for k in groups if k), "no label", "entire corpus"]
    assert len(table) == 9
    for head, names in heads.items():
        row = table[head]
        assert int(row["sequences"]) == len(names)
        assert float(row["mean_frames"]) == pytest.approx(
            statistics.fmean(frames[n] for n in names), rel=1e-5
        )
        for use in ("none", "sequence", "corpus"):
            expected = figures_of(names, by_letters(evaluated, use), frames)
            for key, value in expected.items():
                found = row[f"{key}_{use}"]
                if isinstance(value, str):
                    assert found == value, (head, key, use)
                else:
                    assert float(found) == pytest.approx(value, rel=1e-5), (head, key, use)


def test_the_papers_figures_stand_beside_ours_and_say_so(evaluated: Path) -> None:
    table = {row["label"]: row for row in rows(evaluated / "table1.csv")}
    cited = {k: v for k, v in table["surprise"].items() if k.startswith("paper_")}
    assert cited == {
        "paper_sequences": "83",
        "paper_mean_frames": "16",
        "paper_unique_aus": "36",
        "paper_unique": "56",
        "paper_mean_stages": "3.4",
        "paper_reduction": "0.78",
    }
    markdown = (evaluated / "table1.md").read_text()
    assert "| *the same, from the paper* | 62 % | 65 % | 52 % | 64 % |" in markdown
    page = (evaluated / "table1.html").read_text()
    assert '<span class="paper">paper 593</span>' in page
    for name in ("table1.md", "table1.html"):
        text = (evaluated / name).read_text()
        for row in table.values():
            assert f"{100 * float(row['mean_reduction_sequence']):.1f} %" in text
            assert f"{float(row['mean_stages_corpus']):.2f}" in text


def test_the_terminal_shows_the_same_table(
    corpus: tuple[Path, list[Made]], evaluated: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--workers", 2, "--no-reports", "--global", "--min-support", 0.08)
    analyse(corpus[0], evaluated, *options)
    lines = capsys.readouterr().out.splitlines()
    table = {row["label"]: row for row in rows(evaluated / "table1.csv")}
    assert max(map(len, lines[1:-1])) <= 100
    for label, row in table.items():
        at = next(n for n, line in enumerate(lines) if line.startswith(f"{label}  "))
        ours = lines[at].removeprefix(label).replace(" %", "").split()
        uses = ("sequence", "corpus")
        expected = [row["sequences"], f"{float(row['mean_frames']):.2f}", row["unique_none"]]
        for use in uses:
            expected += [row[f"unique_{use}"], f"{float(row[f'mean_stages_{use}']):.2f}"]
            expected.append(f"{100 * float(row[f'mean_reduction_{use}']):.1f}")
        assert ours == expected
        cited = lines[at + 1].split()
        assert cited[0] == "paper"
        assert cited[1] == row["paper_sequences"]
        assert cited[4] == row["paper_unique"]


def test_corpus_letters_rename_and_nothing_else(evaluated: Path) -> None:
    """Each letter of a sequence has one name in the corpus, and the AUs stay the same."""
    ours, corpus_wide = sequences(evaluated), by_letters(evaluated, "corpus")
    letters: dict[str, set[str]] = {}
    for name, stages in ours.items():
        assert bare(stages) == bare(corpus_wide[name])
        assert len(corpus_wide[name]) <= len(stages)
        for stage in corpus_wide[name]:
            for label in stage:
                letters.setdefault(label[:4], set()).add(label)
    for au, used in letters.items():
        if au.startswith("AU"):  # letters without a hole, from A on
            assert used == {f"{au}_{chr(ord('A') + n)}" for n in range(len(used))}


# --- relations and patterns -----------------------------------------------------------------------


@pytest.mark.parametrize("use", ["none", "sequence", "corpus"])
def test_prototypes_and_lattice(evaluated: Path, use: str) -> None:
    prototypes = by_letters(evaluated, use)
    counts = Counter(map(written, prototypes.values()))
    by_text = {written(p): p for p in prototypes.values()}
    table = [r for r in rows(evaluated / "prototypes.csv") if r["letters"] == use]
    assert {r["prototype"]: int(r["sequences"]) for r in table} == dict(counts)
    ids = {r["id"]: by_text[r["prototype"]] for r in table}
    inside = {(a, b) for a, p in ids.items() for b, q in ids.items() if a != b and holds(q, p)}
    for r in table:
        assert int(r["includes"]) == sum(b == r["id"] for _, b in inside)
        assert int(r["included_in"]) == sum(a == r["id"] for a, _ in inside)
    edges = {
        (r["inner"], r["outer"]) for r in rows(evaluated / "lattice.csv") if r["letters"] == use
    }
    assert edges == {
        (a, b) for a, b in inside if not any((a, c) in inside and (c, b) in inside for c in ids)
    }


@pytest.mark.parametrize("use", ["none", "sequence", "corpus"])
def test_planted_patterns_are_found(
    corpus: tuple[Path, list[Made]], evaluated: Path, use: str
) -> None:
    """The copies among ``happy`` share whatever the network saw in them: it must come out."""
    prototypes = by_letters(evaluated, use)
    labels = {m.name: m.label for m in corpus[1]}
    happy = [n for n, label in labels.items() if label == "happy"]
    most, count = Counter(prototypes[n] for n in happy).most_common(1)[0]
    assert count >= COPIES
    planted = tuple(stage for stage in most if stage not in (("NONE",), ("LOST",)))
    assert planted, "the network saw nothing at all in the smile of the demo clip"
    support = [n for n, p in prototypes.items() if holds(p, planted)]
    patterns = {
        tuple(tuple(s.split(", ")) for s in r["pattern"][1:-1].split(") → (")): r
        for r in rows(evaluated / "patterns.csv")
        if r["letters"] == use
    }
    closed = [
        p for p, r in patterns.items() if holds(p, planted) and int(r["support"]) == len(support)
    ]
    assert closed
    row = patterns[closed[0]]
    with_label = sum(labels[n] == "happy" for n in support)
    assert int(row["support_happy"]) == with_label
    assert int(row["complete_from"]) == math.ceil(0.08 * len(prototypes))
    lift = (with_label / len(happy)) / (len(support) / len(prototypes))
    assert float(row["lift_happy"]) == pytest.approx(lift, abs=1e-3)
    for pattern, r in patterns.items():
        assert int(r["support"]) == sum(holds(p, pattern) for p in prototypes.values())


def test_transitions_are_those_of_the_sequences(evaluated: Path) -> None:
    counted: Counter[tuple[str, str]] = Counter()
    for stages in by_letters(evaluated, "none").values():
        counted.update(("+".join(a), "+".join(b)) for a, b in itertools.pairwise(stages))
    found = {
        (r["from"], r["to"]): int(r["count"])
        for r in rows(evaluated / "transitions.csv")
        if r["label"] == "entire corpus"
    }
    assert found == dict(counted)


# --- pages ----------------------------------------------------------------------------------------


def test_the_page_is_self_contained_and_links_every_report(small: tuple[Path, Path]) -> None:
    out = small[1]
    page = (out / "index.html").read_text()
    links = re.findall(r'href="([^"#]+)"', page)
    assert sorted(set(links)) == [f"sequences/{name}/report.html" for name in sequences(out)]
    assert all((out / link).is_file() for link in links)
    assert not re.findall(r'(?:src|href)="(?!data:|#|sequences/)', page)
    assert "default-src 'none'" in page
    assert "S900_001" in page.partition('id="failed"')[2]
    for name in ("table1.html", "figures/stages.svg", "figures/typical_entire-corpus.png"):
        assert (out / name).stat().st_size > 1000


def test_tables_of_the_page_keep_the_order_of_table_1(evaluated: Path) -> None:
    page = (evaluated / "index.html").read_text()
    labels = [r["label"] for r in rows(evaluated / "table1.csv")]
    for name in ("table1", "patterns"):
        head = page.partition(f'id="{name}"')[2].partition("</thead>")[0]
        found = re.findall(r'<th class="n">([^<]+)</th>', head)
        assert [x for x in found if x in labels] == (labels if name == "table1" else labels[:-1])
    # Every label that shares the largest lift is named.
    pattern = next(r for r in rows(evaluated / "patterns.csv") if r["letters"] == "corpus")
    lifts = {k.removeprefix("lift_"): float(v) for k, v in pattern.items() if k[:5] == "lift_"}
    best = [label for label, lift in lifts.items() if lift == max(lifts.values())]
    row = page.partition('id="patterns"')[2].partition("<tbody>")[2].partition("</tr>")[0]
    assert f'<td class="labels">{", ".join(best)}</td>' in row


def test_typical_prototypes_link_the_reports_they_are_taken_from(small: tuple[Path, Path]) -> None:
    section = (small[1] / "index.html").read_text().partition('id="typical"')[2]
    section = section.partition("</section>")[0]
    linked = re.findall(r'href="sequences/([^/]+)/report.html"', section)
    assert set(linked) <= set(sequences(small[1]))
    parts = section.split("<details")[1:]
    assert len(parts) == len(rows(small[1] / "table1.csv"))
    assert all(part.count("<img src=") == 1 and "report.html" in part for part in parts)


@pytest.mark.browser
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")
def test_the_page_works_from_a_file(small: tuple[Path, Path]) -> None:
    """Search, choose a label, sort, and follow a link; nothing is refused or fails."""
    names = list(sequences(small[1]))
    labels = {r["name"]: r["label"] for r in rows(small[1] / "manifest.csv")}

    async def visit() -> None:
        executable = find_chromium()
        assert executable is not None
        shown = "[...document.querySelectorAll('#sequences tbody tr')].filter(r => !r.hidden)"
        listed = f"{shown}.map(r => r.cells[0].textContent)"
        async with open_page(executable) as page:
            await page.goto((small[1] / "index.html").as_uri())
            assert await page.evaluate(listed) == names
            await page.evaluate(
                f"query.value = '{names[1]}'; query.dispatchEvent(new Event('input'))"
            )
            assert await page.evaluate(listed) == [names[1]]
            assert await page.evaluate("count.textContent") == f"1 of {len(names)}"
            await page.evaluate("query.value = ''; query.dispatchEvent(new Event('input'))")
            await page.evaluate(
                f"label.value = '{labels[names[0]]}'; label.dispatchEvent(new Event('change'))"
            )
            expected = [n for n in names if labels[n] == labels[names[0]]]
            assert await page.evaluate(listed) == expected
            await page.evaluate("label.value = ''; label.dispatchEvent(new Event('change'))")
            for _ in range(2):  # the frames: upwards, then downwards
                await page.evaluate("document.querySelectorAll('#sequences th button')[3].click()")
            frames = await page.evaluate(f"{shown}.map(r => Number(r.cells[3].textContent))")
            assert frames == sorted(frames, reverse=True)
            await page.evaluate("document.querySelector('#sequences a').click()")
            await page.until("document.title.startsWith('Temporal prototype')")
            assert page.errors == []

    asyncio.run(visit())


@pytest.fixture
def long(
    small: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, list[list[str]]]:
    """The page of more sequences than it holds itself; and what its rows say when it does."""
    out = tmp_path / "out"
    shutil.copytree(small[1], out)
    text = (out / "index.html").read_text().partition('id="list"')[2].partition("</tbody>")[0]
    cells = [
        [html.unescape(re.sub("<[^>]+>", "", cell)) for cell in re.split("</td>", row)[:-1]]
        for row in text.partition("<tbody>")[2].split("</tr>")[:-1]
    ]
    monkeypatch.setattr("facestage.stream.corpus.page.MOST_INLINE", 2)
    analyse(small[0], out)
    return out, [[cell.strip() for cell in row] for row in cells]


def test_many_sequences_are_beside_the_page(
    small: tuple[Path, Path], long: tuple[Path, list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, expected = long
    page = (out / "index.html").read_text()
    assert (
        page.partition('id="list"')[2].partition("<tbody>")[2].partition("</tbody>")[0].strip()
        == ""
    )
    assert 'data-file="sequences.js"' in page
    assert "'strict-dynamic'" in page
    script = (out / "sequences.js").read_text()
    data = json.loads(script.removeprefix("globalThis.corpusSequences = ").removesuffix(";\n"))
    assert [row[0] for row in data["sequences"]] == [row[0] for row in expected]
    assert "'strict-dynamic'" not in (small[1] / "index.html").read_text()
    assert not (small[1] / "sequences.js").exists()
    # With fewer sequences again, nothing is left that no page asks for.
    monkeypatch.setattr("facestage.stream.corpus.page.MOST_INLINE", 500)
    analyse(small[0], out)
    assert not (out / "sequences.js").exists()


@pytest.mark.browser
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")
def test_rows_beside_the_page_are_those_of_the_page(long: tuple[Path, list[list[str]]]) -> None:
    """Opened from a folder, without a server: the same rows, search, labels, order and links."""
    out, expected = long

    async def visit() -> None:
        executable = find_chromium()
        assert executable is not None
        listed = (
            "[...document.querySelectorAll('#sequences tbody tr')]"
            ".map(r => [...r.cells].map(c => c.textContent.trim()))"
        )
        async with open_page(executable) as page:
            await page.goto((out / "index.html").as_uri())
            await page.until("document.querySelectorAll('#sequences tbody tr').length > 0")
            assert await page.evaluate(listed) == expected[:2]
            told = "count.textContent + '; ' + more.textContent"
            n = len(expected)
            assert await page.evaluate(told) == f"{n} of {n}, the first 2 shown; Show 2 more"
            while await page.evaluate("!more.hidden"):
                await page.evaluate("more.click()")
            assert await page.evaluate(listed) == expected
            assert await page.evaluate("count.textContent") == f"{n} of {n}"
            pills = "[...document.querySelectorAll('#sequences .pill')]"
            looks = f"{pills}.map(p => [p.textContent, p.className.trim(), p.style.background])"
            for text, kind, colour in await page.evaluate(looks):
                assert kind == ("pill" if text.startswith("AU") else f"pill {text.lower()}")
                assert bool(colour) == text.startswith("AU")
            name = expected[1][0]
            await page.evaluate(f"query.value = '{name}'; query.dispatchEvent(new Event('input'))")
            assert await page.evaluate(listed) == [expected[1]]
            await page.evaluate("query.value = ''; query.dispatchEvent(new Event('input'))")
            await page.evaluate(
                f"label.value = '{expected[0][1]}'; label.dispatchEvent(new Event('change'))"
            )
            same = [row for row in expected if row[1] == expected[0][1]]
            assert await page.evaluate(listed) == same[:2]
            await page.evaluate("label.value = ''; label.dispatchEvent(new Event('change'))")
            for _ in range(2):  # the frames: upwards, then downwards
                await page.evaluate("document.querySelectorAll('#sequences th button')[3].click()")
            frames = [int(row[3]) for row in await page.evaluate(listed)]
            assert frames == sorted((int(row[3]) for row in expected), reverse=True)[:2]
            await page.evaluate("document.querySelector('#sequences a').click()")
            await page.until("document.title.startsWith('Temporal prototype')")
            assert page.errors == []

    asyncio.run(visit())


@pytest.mark.browser
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")
def test_a_page_without_its_rows_says_so(long: tuple[Path, list[list[str]]]) -> None:
    (long[0] / "sequences.js").unlink()

    async def visit() -> None:
        executable = find_chromium()
        assert executable is not None
        async with open_page(executable) as page:
            await page.goto((long[0] / "index.html").as_uri())
            await page.until("count.textContent.startsWith('sequences.js is missing')")

    asyncio.run(visit())


def test_reports_and_the_store_agree(small: tuple[Path, Path]) -> None:
    for name, stages in sequences(small[1]).items():
        folder = small[1] / "sequences" / name
        document = json.loads((folder / "temporal_prototype.json").read_text())
        assert [tuple(s["labels"]) for s in document["stages"]] == list(stages)
        assert document["frames"] == json.loads((folder / "sequence.json").read_text())["frames"]


# --- engines, resuming ----------------------------------------------------------------------------


def tree(out: Path) -> dict[str, bytes]:
    files = (p for p in out.rglob("*") if p.is_file())
    return {str(p.relative_to(out)): p.read_bytes() for p in files}


def assert_same(one: Path, two: Path) -> None:
    first, second = tree(one), tree(two)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_shards_of_a_pool_give_the_same_bytes(small: tuple[Path, Path], tmp_path: Path) -> None:
    root, out = small
    analyse(root, tmp_path / "out", "--workers", 2, "--shard", "2/2")
    assert not (tmp_path / "out" / "index.html").exists()
    assert sum(r["state"] == "waiting" for r in rows(tmp_path / "out" / "manifest.csv")) == 3
    analyse(root, tmp_path / "out", "--workers", 2, "--shard", "1/2")
    assert_same(out, tmp_path / "out")


def test_ray_gives_the_same_bytes(
    small: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray.data", reason="Ray (extra 'ray') is not installed")
    # Ray's workers give way to everything else; beside other tests they would hardly run.
    monkeypatch.setenv("RAY_worker_niceness", "0")
    root, out = small
    analyse(root, tmp_path / "out", "--engine", "ray", "--workers", 2)
    assert_same(out, tmp_path / "out")


def test_a_killed_run_goes_on_where_it_was(small: tuple[Path, Path], tmp_path: Path) -> None:
    """SIGKILL while a sequence is in flight: what was done stays, the rest is done once."""
    root, reference = small
    out = tmp_path / "out"
    command = [sys.executable, "-m", "facestage.stream", "corpus", str(root), "--layout", "ckplus"]
    command += ["--out", str(out), "--workers", "1", *OPTIONS]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 900
        while not list(out.glob("sequences/*/sequence.json")):
            assert run.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    done = {p: p.stat().st_ino for p in out.glob("sequences/*/sequence.json")}
    if len(done) == len(sequences(reference)):
        pytest.skip("the run was through before the signal reached it")
    # What was left half-written by the kill, and by one that came at a worse moment.
    name = next(n for n in sequences(reference) if not (out / "sequences" / n).exists())
    left = out / "sequences" / f".{name}-abc.partial"
    (left / "new").mkdir(parents=True)
    (left / "new" / "sequence.json").write_text("{}")
    analyse(root, out, "--workers", 1)
    assert {p: p.stat().st_ino for p in done} == done
    assert_same(reference, out)


def test_a_second_run_repeats_nothing_and_adds_letters(
    small: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, reference = small
    out = tmp_path / "out"
    shutil.copytree(reference, out)

    def refuse(*_args: object) -> None:
        raise AssertionError("analysed again")

    monkeypatch.setattr(engines.SequenceWorker, "run", refuse)
    analyse(root, out, "--workers", 1)
    assert_same(reference, out)
    analyse(root, out, "--workers", 1, "--global")
    assert "unique_corpus" in (out / "table1.csv").read_text()


def test_failed_ones_are_tried_again_only_when_asked(
    small: tuple[Path, Path], tmp_path: Path
) -> None:
    root, out = tmp_path / "ck", tmp_path / "out"
    shutil.copytree(small[0], root)
    images = root / "cohn-kanade-images" / "S900" / "001"
    for other in ("S006", "S016", "S017"):
        shutil.rmtree(root / "cohn-kanade-images" / other)
    code = call(root, "--layout", "ckplus", "--out", out, *OPTIONS, "--workers", 1)
    assert code == 4  # nothing could be analysed
    shutil.copy(images / "S900_001_00000003.png", images / "S900_001_00000004.png")
    assert call(root, "--layout", "ckplus", "--out", out, *OPTIONS, "--workers", 1) == 4
    analyse(root, out, "--workers", 1, "--retry-failed", "--no-reports")
    assert rows(out / "manifest.csv")[0]["state"] == "done"
    assert not list((out / "failed").iterdir())


def test_a_sequence_that_kills_its_worker_is_noted_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_run", crashing_worker.run)
    items = [SequenceItem(name, "nowhere") for name in ("a", "kills", "b", "c")]
    settings = Settings(
        tmp_path / "out", {}, analyzer_config(0.0, "shown", baseline=False), "paper"
    )
    outcomes = list(engines.in_pool(items, settings, 2, lambda: False))
    assert sorted(o.item.name for o in outcomes) == ["a", "b", "c", "kills"]
    assert [o.item.name for o in outcomes if o.reason] == ["kills"]
    folder = store.CorpusFolder(tmp_path / "out", {})
    assert folder.reason(items[1]) == engines.CRASHED


def test_a_stopped_run_ends_after_the_sequences_in_flight(
    small: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C: the sequence in flight is finished, nothing else is begun, exit code 130."""
    run = engines.SequenceWorker.run

    def interrupt(self: engines.SequenceWorker, item: SequenceItem):  # type: ignore[no-untyped-def]
        os.kill(os.getpid(), signal.SIGINT)
        return run(self, item)

    monkeypatch.setattr(engines.SequenceWorker, "run", interrupt)
    out = tmp_path / "out"
    code = call(small[0], "--layout", "ckplus", "--out", out, *OPTIONS, "--workers", 1)
    assert code == 130
    states = Counter(r["state"] for r in rows(out / "manifest.csv"))
    assert states == {"done": 1, "waiting": 4}


# --- bad input ------------------------------------------------------------------------------------

Fails = Callable[..., str]


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Fails:
    """Run, expect an exit code, and return the one line of error (progress is none)."""

    def check(code: int, *args: object) -> str:
        assert call(*args) == code
        lines = capsys.readouterr().err.splitlines()
        lines = [line for line in lines if not line.startswith("sequences: ")]
        assert len(lines) == 1, lines
        assert lines[0].startswith("facestage: ")
        return lines[0]

    return check


def test_an_output_folder_of_another_corpus_is_refused(
    small: tuple[Path, Path], tmp_path: Path, fails: Fails
) -> None:
    root, out = small
    before = tree(out)
    other = tmp_path / "other"
    shutil.copytree(root, other)
    line = fails(2, other, "--layout", "ckplus", "--out", out, *OPTIONS)
    assert "holds another corpus: its folder is" in line
    line = fails(2, root, "--layout", "ckplus", "--out", out, "--detector", "ours")
    assert "its preset is 'paper', here it is 'sequence'" in line
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    line = fails(2, root, "--layout", "ckplus", "--out", tmp_path / "mine", *OPTIONS)
    assert "holds 'thesis.tex' and is no corpus of facestage" in line
    line = fails(2, root, "--layout", "ckplus", "--out", tmp_path / "mine" / "thesis.tex", *OPTIONS)
    assert "is a file" in line
    assert tree(out) == before


def test_the_same_folder_by_another_way_goes_on(
    small: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, reference = small
    out = tmp_path / "out"
    shutil.copytree(reference, out)
    (root / "Emotion").mkdir(exist_ok=True)
    monkeypatch.chdir(root / "Emotion")
    analyse(Path(".."), out, "--workers", 1)
    assert json.loads((out / "corpus.json").read_text())["folder"] == str(root)


def test_what_a_killed_run_left_of_a_table_is_removed_in_time(
    small: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(small[1], out)
    old, fresh = out / ".table1.csv-abc.partial", out / ".index.html-abc.partial"
    for left in (old, fresh):
        left.write_text("half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    analyse(small[0], out, "--workers", 1)
    assert not old.exists()
    assert fresh.exists(), "another part of a job array may be writing it"


def test_a_full_disk_ends_the_run_and_leaves_nothing_half_written(
    small: tuple[Path, Path], tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(store, "_write_extras", full)
        line = fails(
            2, small[0], "--layout", "ckplus", "--out", out, *OPTIONS, "--workers", 1,
            "--no-reports",
        )  # fmt: skip
    assert "the disk is full" in line
    assert not list((out / "sequences").iterdir())
    assert not list((out / "failed").iterdir())


def test_a_cluster_that_does_not_share_the_disk(
    small: tuple[Path, Path], tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written on another machine is not here: that must not look like a finished run."""
    monkeypatch.setattr(
        engines.SequenceWorker, "run", lambda self, item: SequenceOutcome(item, frames=9)
    )
    common = (small[0], "--layout", "ckplus", "--out", tmp_path / "out", *OPTIONS)
    line = fails(2, *common, "--workers", 1)
    assert "5 sequences were analysed, but" in line
    assert "same folder on every machine" in line


def test_options_that_cannot_work(small: tuple[Path, Path], tmp_path: Path, fails: Fails) -> None:
    common = (small[0], "--layout", "ckplus", "--out", tmp_path / "out")
    assert "use ckplus, actorstudy" in fails(2, small[0], "--layout", "x", "--out", tmp_path / "o")
    assert "--shard 3/2 is not a part" in fails(2, *common, "--shard", "3/2")
    assert "use process or ray" in fails(2, *common, "--engine", "dask")
    assert "needs --engine ray" in fails(2, *common, "--ray-address", "x:1")
    assert "no SpRAy preset 'x'" in fails(2, *common, "--preset", "x")
    assert "there is no" in fails(4, tmp_path / "no", "--layout", "ckplus", "--out", tmp_path)
    assert not (tmp_path / "out").exists()


def worker_settings(device: str, threads: int = 1) -> Settings:
    config = analyzer_config(0.0, "shown", baseline=False)
    return Settings(Path("out"), {}, config, "paper", device=device, threads=threads)


@pytest.mark.parametrize(
    ("device", "threads", "inside", "slot"),
    [
        ("cpu", 3, "cpu", {"num_cpus": 3, "num_gpus": 0}),
        ("cuda", 1, "cuda", {"num_cpus": 1, "num_gpus": 1}),
        # Ray hides all other GPUs from an actor, so that its own is the first it sees.
        ("cuda:3", 2, "cuda", {"num_cpus": 2, "num_gpus": 1}),
    ],
)
def test_an_actor_of_ray_takes_one_slot(
    device: str, threads: int, inside: str, slot: dict[str, int]
) -> None:
    asked = worker_settings(device, threads)
    settings, found = engines.ray_slot(asked)
    assert found == slot
    assert settings.device == inside
    assert (settings.threads, settings.out) == (asked.threads, asked.out)


@pytest.mark.parametrize(
    ("resources", "device", "threads", "actors", "advice"),
    [
        ({"CPU": 8.0, "GPU": 2.0}, "cuda", 1, 2, None),
        ({"CPU": 8.0}, "cpu", 4, 2, None),
        ({"CPU": 8.0, "GPU": 2.0}, "cuda", 1, 3, "3 Ray .* the cluster has 2; use --workers 2"),
        ({"CPU": 8.0}, "cuda", 1, 1, "1 GPU each.*has 0; use --device cpu"),
        ({"CPU": 7.0}, "cpu", 4, 2, "need 8, the cluster has 7; use --workers 1"),
        ({"CPU": 3.0}, "cpu", 4, 1, "use --threads 3"),
    ],
)
def test_a_cluster_without_the_slots_is_refused_instead_of_waited_for(
    resources: dict[str, float], device: str, threads: int, actors: int, advice: str | None
) -> None:
    _, slot = engines.ray_slot(worker_settings(device, threads))
    if advice is None:
        engines.check_slots(resources, slot, actors)
        return
    with pytest.raises(ConfigError, match=advice):
        engines.check_slots(resources, slot, actors)


@pytest.mark.gpu
def test_ray_on_gpu_slots_gives_what_a_pool_gives(
    small: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One actor on a GPU of its own, against one process on the same GPU."""
    pytest.importorskip("ray.data", reason="Ray (extra 'ray') is not installed")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    root, _ = small
    options = (*("--layout", "ckplus", "--detector", "ours", "--device", "cuda"), "--paper")
    assert call(root, "--out", tmp_path / "one", *options, "--workers", 1) == 0
    assert call(root, "--out", tmp_path / "ray", *options, "--workers", 1, "--engine", "ray") == 0
    assert sequences(tmp_path / "ray") == sequences(tmp_path / "one")
    assert rows(tmp_path / "ray" / "table1.csv") == rows(tmp_path / "one" / "table1.csv")


@pytest.mark.browser
@pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")
def test_the_lattice_lights_up_by_keyboard(evaluated: Path) -> None:
    """Focus lights what is above and below; arrows follow the lines; Escape ends it."""

    async def visit() -> None:
        executable = find_chromium()
        assert executable is not None
        async with open_page(executable) as page:
            await page.call("Emulation.setFocusEmulationEnabled", enabled=True)
            await page.goto((evaluated / "index.html").as_uri())
            links = await page.evaluate(
                "[...document.querySelectorAll('.link')]"
                ".map(x => [+x.dataset.low, +x.dataset.high])"
            )
            low = links[0][0]
            node = f"document.querySelector('.node[data-n=\"{low}\"]')"
            await page.evaluate(f"{node}.focus()")
            up, down = {low}, {low}
            for _ in links:
                up |= {b for a, b in links if a in up}
                down |= {a for a, b in links if b in down}
            lit = await page.evaluate(
                "[...document.querySelectorAll('.node.lit')].map(x => +x.dataset.n)"
            )
            assert set(lit) == up | down
            note = "document.getElementById('lattice-note').textContent"
            assert f"is in {len(up) - 1} of those drawn" in await page.evaluate(note)
            await page.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowUp")
            reached = int(await page.evaluate("document.activeElement.dataset.n"))
            assert reached in {b for a, b in links if a == low}
            assert await page.evaluate("document.querySelectorAll('[tabindex=\"0\"]').length") == 1
            await page.call("Input.dispatchKeyEvent", type="keyDown", key="Escape")
            assert await page.evaluate("document.querySelectorAll('.node.lit').length") == 0
            assert page.errors == []

    asyncio.run(visit())


def test_the_lattice_drawn_is_that_of_the_table(evaluated: Path) -> None:
    """Lines of the drawing are inclusions of lattice.csv, all of them where nothing is left out."""
    picture = (evaluated / "figures" / "lattice.svg").read_text(encoding="utf-8")
    assert "<script" not in picture
    lines = re.findall(r'class="link" data-low="(\d+)" data-high="(\d+)"', picture)
    titles = re.findall(r"<title>(.*?) · shown by (\d+), shown or included by (\d+)", picture)
    prototypes = {
        r["id"]: r for r in rows(evaluated / "prototypes.csv") if r["letters"] == "corpus"
    }
    covers = {
        (prototypes[r["inner"]]["prototype"], prototypes[r["outer"]]["prototype"])
        for r in rows(evaluated / "lattice.csv")
        if r["letters"] == "corpus"
    }
    drawn = {(titles[int(a)][0], titles[int(b)][0]) for a, b in lines}
    assert drawn == covers
    own = {r["prototype"]: int(r["sequences"]) for r in prototypes.values()}
    shown = by_letters(evaluated, "corpus")
    stages = {written(s): s for s in shown.values()}
    for text, alone, support in titles:
        assert int(alone) == own[text]
        assert int(support) == sum(holds(s, stages[text]) for s in shown.values())


@pytest.mark.parametrize("text", ["0/2", "2", "a/b", "1/0", "-1/2", "1/2/3", ""])
def test_shards_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a part"):
        parse_shard(text)


def test_ray_that_is_not_there(
    small: tuple[Path, Path], tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = (small[0], "--layout", "ckplus", "--out", tmp_path / "out", "--engine", "ray")
    monkeypatch.setitem(sys.modules, "ray.data", None)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'facestage[ray]'" in fails(2, *common)


def test_a_ray_address_where_nobody_answers(
    small: tuple[Path, Path], tmp_path: Path, fails: Fails
) -> None:
    pytest.importorskip("ray.data", reason="Ray (extra 'ray') is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        port = taken.getsockname()[1]
        common = (small[0], "--layout", "ckplus", "--out", tmp_path / "out", "--engine", "ray")
        line = fails(2, *common, "--ray-address", f"127.0.0.1:{port}")
        assert f"nobody answers at --ray-address 127.0.0.1:{port}" in line
        assert "HOST:PORT" in fails(2, *common, "--ray-address", "cluster")
