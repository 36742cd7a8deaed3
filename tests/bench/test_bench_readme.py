from __future__ import annotations

from pathlib import Path

from dainv_bench.blocks import block_pattern
from dainv_bench.report.entries import committed_files, read_entries
from dainv_bench.report.readme import readme_blocks
from dainv_bench.report.sections import SECTIONS

ROOT = Path(__file__).parents[2]


def test_the_readme_shows_what_the_committed_measurements_say() -> None:
    text = (ROOT / "README.md").read_text()
    shown = {name: found[0] for name in SECTIONS if (found := block_pattern(name).search(text))}
    assert "overhead" in shown
    made = readme_blocks(read_entries(committed_files(ROOT / "benchmarks" / "results")))
    assert shown == {name: made.get(name) for name in shown}


def test_the_readme_has_one_table_a_device() -> None:
    entries = read_entries(committed_files(ROOT / "benchmarks" / "results"))
    first = next(one for one in entries if one.name.startswith("overhead--"))
    larger = first._replace(
        name="elsewhere", result={**first.result, "environment": {**first.result["environment"], "cpu_count": 64}}
    )
    alone, beside = (readme_blocks([one])["overhead"] for one in (first, larger))
    block = readme_blocks([first, first._replace(name="overhead-again"), larger])["overhead"]
    assert block == f"{alone}\n{beside}"
    assert alone != beside
