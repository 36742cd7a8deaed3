from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_results import EVERY, captured, gpu_check, kernels, overhead, resources, scores, write
from click.testing import CliRunner, Result

from dainv_bench.cli import main
from dainv_bench.formats import readable_time
from dainv_bench.overhead.summary import summarise as summarise_overhead
from dainv_bench.provenance import provenance
from dainv_bench.reading import FIELDS
from dainv_bench.report import figures
from dainv_bench.report.document import by_kind, document_markdown
from dainv_bench.report.entries import Entry, committed_files, read_entries
from dainv_bench.report.sections import SECTIONS
from dainv_bench.scaling import figure as scaling_figures
from dainv_bench.summary import summary_markdown, without_a_time
from dainv_kernels import backend_status

FOLDER = Path("benchmarks/results")


pytestmark = pytest.mark.usefixtures("_elsewhere")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["report", *arguments])


@pytest.fixture
def quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures, which take seconds: the form of each instead."""
    for module in (figures, scaling_figures):
        monkeypatch.setattr(module, "render", lambda figure, form: form.encode())


def checkout() -> None:
    """Committed results, a README, and a folder for documents."""
    for name, make in EVERY.items():
        write(FOLDER / f"{name}--here--cpu.json", make())
    write(FOLDER / "scores-quick--here--cpu.json", {"schema": "not read"})
    Path("docs").mkdir()
    Path("benchmarks/README.md").write_text("how\n")
    Path("README.md").write_text("before\n<!-- overhead -->\nold\n<!-- /overhead -->\nafter <!-- elsewhere -->\n")


@pytest.mark.usefixtures("quick_figures")
def test_report_of_a_checkout() -> None:
    checkout()
    done = run()
    assert done.exit_code == 0, done.output
    assert "docs/performance.md written and " in done.output
    assert "tables in README.md rewritten: overhead\n" in done.output
    text = Path("docs/performance.md").read_text()
    headings = re.findall("^## (.*)$", text, re.MULTILINE)
    assert headings == [section.title for section in SECTIONS.values()]
    # Every figure that the text names is there in both forms, and none beside.
    named = set(re.findall(r"\]\((performance/[^)]*)\)", text))
    assert {path.relative_to("docs").as_posix() for path in Path("docs/performance").iterdir()} == named
    assert len(named) == 2 * 9  # a GPU check has the figure of its kernels
    for path in Path("docs/performance").iterdir():
        assert path.read_text() == path.suffix[1:]
    # So is every file it links to.
    targets = [Path("docs") / target for target in re.findall(r"\]\((\.\./[^)]*)\)", text)]
    assert (
        len(targets) == 1 + len(EVERY) + 2
    )  # the method, a file a result, and that of the check's kernels and training
    assert all(target.resolve().is_file() for target in targets)
    table = summary_markdown(summarise_overhead(overhead()))  # type: ignore[arg-type]
    assert table in text
    assert Path("README.md").read_text() == (
        f"before\n<!-- overhead -->\n{table}<!-- /overhead -->\nafter <!-- elsewhere -->\n"
    )


@pytest.mark.usefixtures("quick_figures")
def test_the_same_results_give_the_same_bytes() -> None:
    checkout()

    def written() -> dict[Path, bytes]:
        assert run().exit_code == 0
        return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}

    first = written()
    assert written() == first


def test_chosen_files_leave_the_checkout_alone() -> None:
    checkout()
    before = Path("README.md").read_bytes()
    done = run(str(FOLDER / "launches--here--cpu.json"), "--out", "elsewhere")
    assert done.exit_code == 0, done.output
    assert done.output == "elsewhere/report.md written\n"
    assert [path.name for path in Path("elsewhere").iterdir()] == ["report.md"]
    assert Path("README.md").read_bytes() == before
    assert not Path("docs/performance.md").exists()
    refused = run(str(FOLDER / "launches--here--cpu.json"))
    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: --out DIR is needed for chosen files")


def test_where_there_is_nothing_to_report() -> None:
    outside = run()
    assert (outside.exit_code, outside.stderr.count("\n")) == (1, 1)
    assert "outside of a checkout" in outside.stderr
    nothing = run("--out", "there")
    assert (nothing.exit_code, nothing.stderr.count("\n")) == (1, 1)
    assert "no result in benchmarks/results" in nothing.stderr
    assert not Path("there").exists()


def test_files_from_elsewhere_are_named_but_not_linked(tmp_path: Path) -> None:
    path = write(tmp_path / "far" / "one.json", captured())
    text = document_markdown(Path("docs/x.md"), read_entries([path, path]))
    assert str(tmp_path) not in text
    assert "`one.json`" in text
    assert "x/one.svg" in text
    assert "x/one-again.svg" in text  # the second does not overwrite the first


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 2}, "schema 2 is newer than the 1 that this version reads; update dainv"),
        ({"schema": 0}, "schema 0 is not the 1 that this version reads"),
        ({"schema": "1"}, "schema '1' is not the 1 that this version reads"),
        ({"suite": "bread"}, "there is no suite 'bread'; there are overhead, kernels,"),
        ({"suite": "scores"}, "not a whole result of scores: agreement, sizes missing"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(change: dict[str, Any], said: str) -> None:
    write(Path("good.json"), captured())
    write(Path("bad.json"), overhead() | change)
    for command in (["report", "good.json", "bad.json", "--out", "there"], ["compare", "good.json", "bad.json"]):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 1
        assert done.stderr.startswith(f"error: bad.json: {said}")
        assert done.stderr.count("\n") == 1
    assert not Path("there").exists()


@pytest.mark.parametrize("content", [None, b"{", b"[]", b"{}", b"\xff"])
def test_no_result_at_all(content: bytes | None) -> None:
    if content is not None:
        Path("bad.json").write_bytes(content)
    done = run("bad.json", "--out", "there")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: bad.json: ")
    assert done.stderr.count("\n") == 1


def test_a_newer_result_within_a_gpu_check_is_named() -> None:
    result = gpu_check()
    result["stages"]["kernels"]["result"]["schema"] = 9
    write(Path("check.json"), result)
    done = run("check.json", "--out", "there")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: check.json, stage kernels: schema 9 is newer")


def test_a_gpu_check_shows_what_its_stages_measured_but_no_rehearsal() -> None:
    on_gpu = read_entries([write(Path("gpu.json"), gpu_check())])
    assert [entry.name for entry in on_gpu] == ["gpu", "gpu--kernels", "gpu--training"]
    assert list(by_kind(on_gpu)) == ["training", "kernels", "gpu-check"]
    on_cpu = read_entries([write(Path("cpu.json"), gpu_check("cpu"))])
    assert [entry.name for entry in on_cpu] == ["cpu"]
    assert "| forward, % of copy | ≥ 80 | 73.4 | 70 to 75 | missed |  |" in document_markdown(Path("x.md"), on_gpu)


def test_every_suite_has_a_section() -> None:
    assert set(SECTIONS) == {*FIELDS, "overhead-kept", "overhead-epoch", "overhead-epoch-kept"}
    assert set(EVERY) == set(SECTIONS)


def test_rehearsals_are_not_committed() -> None:
    checkout()
    assert [path.name for path in committed_files()] == sorted(f"{name}--here--cpu.json" for name in EVERY)


def test_provenance_says_what_was_not_clean() -> None:
    result = scores()
    assert provenance(result) == (
        "Measured 2026-11-22 12:44:46 UTC on AMD EPYC (2 CPUs, threads: 1), Linux x86_64; dainv 0.1.0, commit "
        "012345678, nothing uncommitted; Python 3.11.7, torch 2.15.0, numpy 2.4.6; "
        "load average 0.25 before, 0.75 after."
    )
    result["environment"]["uncommitted_changes"] = True
    result["interrupted"] = True
    result["load_average"] = {"before": None, "after": None}
    assert "with uncommitted changes" in provenance(result)
    assert provenance(result).endswith("; interrupted before it was done.")
    assert "load" not in provenance(result)
    assert " on NVIDIA H200 in AMD EPYC (" in provenance(captured())


def notes_of(name: str) -> list[str]:
    return [line for line in SECTIONS[name].markdown(EVERY[name]()).splitlines() if line.startswith("- ")]


def test_notes_say_who_was_not_run_and_how_it_ended() -> None:
    assert notes_of("scores") == [
        "- `published` not run (N = 128): the matrix | takes 9 GiB",
        "- streaming without augmentation, N = 64: 1.000 × forward (1.000 to 1.000)",
        "- streaming without augmentation, N = 128: 1.000 × forward (1.000 to 1.000)",
        "- streaming 128 images costs 1.050 times the bare forward passes (95 %: 1.050 to 1.051), "
        "above the limit of 1.01",
    ]
    assert notes_of("kernels") == [
        "- `published` wrong (layer1 bfloat16): off by 7",
        "- `triton` not run (layer1 float32, layer9 float32, layer1 bfloat16): no GPU",
        "- no time for gigabyte float32",
    ]
    assert notes_of("captured") == ["- `compiled, captured` not run: no compiler"]
    assert notes_of("overhead")[0] == "- `ours-fused` not run: no GPU"
    assert notes_of("overhead")[-1].startswith("- `ours` costs +5.0 % (95 %: ")
    assert notes_of("overhead")[-1].endswith("within the limit of 10 %")


def test_one_sentence_for_all_who_share_a_reason() -> None:
    entries = [("", "a", "no GPU"), ("", "b", None), ("", "c", "no GPU"), ("", "d", "no compiler")]
    assert without_a_time(entries) == ["`a`, `c` not run: no GPU", "`d` not run: no compiler"]
    many = [(f"N = {number}", "a", "too large") for number in range(5)]
    assert without_a_time(many) == ["`a` not run (N = 0, N = 1 and 3 more): too large"]


@pytest.mark.parametrize("name", ["overhead", "overhead-epoch", "scores", "scaling", "kernels"])
def test_a_section_says_how_to_read_it_and_who_is_who(name: str) -> None:
    text = document_markdown(Path("x.md"), [Entry("one", Path("one.json"), EVERY[name]())])
    caption = SECTIONS[name].markdown(EVERY[name]()).splitlines()[0]
    assert "rounds" in caption
    assert "in an order drawn anew" in caption
    assert text.index(SECTIONS[name].reading) < text.index(caption) < text.index("Who is who:")


def test_kernels_as_a_table() -> None:
    lines = SECTIONS["kernels"].markdown(kernels()).splitlines()
    assert "| features | shape | MB | `torch` | `relu+torch` | `published` |" in lines
    assert (
        "| layer1 | B = 16, M = 4, D = 3 × 2 × 2 | 1.0 | 10.0 µs / 10.0 µs | 20.0 µs / 20.0 µs | 40.1 µs / 40.1 µs |"
        in lines
    )
    assert "| layer9\\* | 20 | 81 / 81 | 40.5 / 40.5 | 20.2 / 20.2 |" in lines
    assert "| layer1 | 20 | 81 / 81 | 40.5 / 40.5 |" in lines  # nothing of what was wrong on all of a dtype


def test_resources_share_a_table() -> None:
    entries = [Entry(name, Path(f"{name}.json"), resources()) for name in ("one", "other")]
    text = document_markdown(Path("x.md"), entries)
    assert text.count("| kernel | operation |") == 1
    assert "`one.json`" in text
    assert "`other.json`" in text


def test_memory_that_is_kept_is_another_table() -> None:
    system, kept = (SECTIONS[name].markdown(EVERY[name]()).splitlines()[0] for name in ("overhead", "overhead-kept"))
    assert kept == system.replace("torch 2.15.0.", "torch 2.15.0, freed memory kept.")
    assert kept != system


def test_every_backend_has_a_look_of_its_own() -> None:
    names = [f"{form}{backend}" for form in ("", "relu+") for backend in backend_status()]
    looks = figures._looks([*names, "relu", "published", "cdist", "metric-learning", "closed-form", "compiled"])
    assert len({(look["color"], look["marker"], look["markerfacecolor"]) for look in looks.values()}) == len(looks)
    assert looks["native"]["color"] != looks["triton"]["color"]


def test_an_epoch_is_not_called_a_step() -> None:
    caption, _, headings, *_ = SECTIONS["overhead-epoch"].markdown(EVERY["overhead-epoch"]()).splitlines()
    assert caption.startswith(
        "Time of a training epoch (7 updates on digits, batches made anew) of All-CNN-C, batch 128"
    )
    assert headings.startswith("| arm | epoch |")


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0.00012, "0.12 µs"),
        (0.01234, "12.3 µs"),
        (0.9999, "1.00 ms"),
        (9.996, "10.0 ms"),
        (99.96, "100 ms"),
        (123.4, "123 ms"),
        (999.6, "1.00 s"),
        (123456.0, "123 s"),
    ],
)
def test_readable_times(milliseconds: float, text: str) -> None:
    assert readable_time(milliseconds) == text


@pytest.mark.parametrize("name", ["overhead", "captured", "kernels", "scores"])
def test_figures_are_the_same_every_time(name: str) -> None:
    draw, result = SECTIONS[name].figure, EVERY[name]()
    assert draw is not None
    vector = draw(result, "svg")
    assert vector.startswith(b"<?xml")
    assert draw(result, "svg") == vector
    assert draw(result, "png").startswith(b"\x89PNG")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures themselves instead of their bytes."""
    monkeypatch.setattr(figures, "render", lambda figure, form: figure)


@pytest.mark.usefixtures("drawn")
def test_bars_are_the_overheads() -> None:
    result = overhead()
    (axes,) = figures.overhead_figure(result, "svg").axes  # type: ignore[attr-defined]
    timed = {name: arm["overhead_percent"] for name, arm in result["arms"].items() if arm["overhead_percent"]}
    assert [label.get_text() for label in axes.get_yticklabels()] == list(timed)
    assert [bar.get_width() for bar in axes.patches] == [one["median"] for one in timed.values()]
    ends = [segment[:, 0].tolist() for lines in axes.collections for segment in lines.get_segments()]
    assert ends == [[one["low"], one["high"]] for one in timed.values()]
    assert "limit 10 %" in [text.get_text() for text in axes.texts]


@pytest.mark.usefixtures("drawn")
def test_points_are_the_bandwidths() -> None:
    figure = figures.kernels_figure(kernels(), "svg")
    assert [panel.get_title() for panel in figure.axes] == [  # type: ignore[attr-defined]
        f"{direction}, {dtype}" for dtype in ("float32", "bfloat16") for direction in ("forward", "backward")
    ]
    panel = figure.axes[0]  # type: ignore[attr-defined]
    points = {(line.get_xdata()[0], round(line.get_ydata()[0])) for line in panel.lines if line.get_marker() != "None"}
    assert points == {
        (method["passes"]["forward"]["gigabytes_per_second"], place)
        for place, workload in enumerate(list(kernels()["workloads"].values())[:2])
        for method in workload["methods"].values()
        if method["passes"]
    }
    copies = [line.get_xdata()[0] for line in panel.lines if line.get_marker() == "None"]
    assert copies == [20.0, 20.0]


@pytest.mark.usefixtures("drawn")
def test_lines_are_the_ratios() -> None:
    result = scores()
    (axes,) = figures.scores_figure(result, "svg").axes  # type: ignore[attr-defined]
    lines = {container.get_label(): container[0] for container in axes.containers}
    assert set(lines) == {"streaming", "published", "streaming without augmentation"}
    ratios = [size["arms"]["streaming"]["ratio_to_forward"]["median"] for size in result["sizes"].values()]
    np.testing.assert_allclose(lines["streaming"].get_ydata(), ratios)
    assert list(lines["published"].get_xdata()) == [pytest.approx(64, rel=0.05)]
    assert "limit 1.01" in [text.get_text() for text in axes.get_legend().get_texts()]
