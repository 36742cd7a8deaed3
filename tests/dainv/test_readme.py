import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_python_examples_run():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 2
    torch.manual_seed(0)
    names: dict = {}
    exec("\n".join(blocks), names)
    assert list(names["invariance"]) == [f"layer{n}" for n in range(1, 10)]
    assert names["model"].layer1.conv.weight.grad is not None
    assert names["scores"].sigma["input"].shape == (5, 16)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.skipif(not Path(sys.prefix, "bin", "dainv").exists(), reason="the commands are not installed")
def test_make_demo_runs_to_the_report(tmp_path):
    ready = f"{sys.prefix}/.ready"
    # as a newcomer's shell is: without Triton's interpreter, which these tests switch on
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    result = subprocess.run(
        [
            *("make", "-C", ROOT, "-o", ready, "demo", f"VENV={sys.prefix}"),
            *(f"DEMO_RUNS={tmp_path}/demo", "DEMO_OPTIONS=--epochs 1 --width 0.05"),
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "report:" in result.stdout
    report = tmp_path / "demo" / "baseline" / "analysis" / "report.html"
    assert "http://" not in re.sub(r'xmlns[:a-z]*="[^"]*"', "", report.read_text())
