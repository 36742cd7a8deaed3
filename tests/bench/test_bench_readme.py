from __future__ import annotations

import json
import re
from pathlib import Path

from dainv_bench.tables import overhead_markdown

ROOT = Path(__file__).parents[2]


def test_the_readme_shows_what_the_committed_measurement_says() -> None:
    results = sorted((ROOT / "benchmarks" / "results").glob("overhead--*--cpu.json"))
    assert results
    block = re.search(r"<!-- overhead -->\n(.*?)<!-- /overhead -->", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    assert block[1] == overhead_markdown(json.loads(results[0].read_text()))
