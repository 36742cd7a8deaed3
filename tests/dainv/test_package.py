"""The package as others get it: built, installed elsewhere, on a system that Triton does not support."""

import email
import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from click.testing import CliRunner

import dainv
import dainv_bench.cli
from dainv.cli import main

ROOT = Path(__file__).parents[2]
PACKAGES = {"dainv": "dainv", "dainv_kernels": "kernels/dainv_kernels", "dainv_bench": "benchmarks/dainv_bench"}
SUFFIXES = (".py", ".c", ".typed")


def python(*arguments, cwd=None, **environment):
    """Run Python with what this process can import, and return what it printed."""
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def build_backend_is_new_enough():
    if importlib.util.find_spec("setuptools") is None:
        return False
    return int(metadata.version("setuptools").split(".")[0]) >= 77


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Folder of a source distribution, and of a wheel built from that."""
    if not build_backend_is_new_enough():
        pytest.skip("setuptools >= 77 is not installed")
    folder = tmp_path_factory.mktemp("distributions")
    source, out = folder / "source", folder / "out"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "data", "runs", "reproduction")
    shutil.copytree(ROOT, source, ignore=lambda path, names: ignored(path, names) if Path(path) == ROOT else
                    {name for name in names if name == "__pycache__"})  # fmt: skip
    out.mkdir()
    build = "import sys, setuptools.build_meta as backend; getattr(backend, sys.argv[1])(sys.argv[2])"
    python("-c", build, "build_sdist", out, cwd=source)
    with tarfile.open(next(out.glob("*.tar.gz"))) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    python("-c", build, "build_wheel", out, cwd=unpacked)
    return unpacked, next(out.glob("*.whl"))


def files_of(package):
    folder = ROOT / PACKAGES[package]
    return {f"{package}/{p.relative_to(folder).as_posix()}" for p in folder.rglob("*") if p.suffix in SUFFIXES}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_has_every_file_of_every_package(distributions, package):
    with zipfile.ZipFile(distributions[1]) as wheel:
        held = {name for name in wheel.namelist() if name.startswith(f"{package}/")}
    assert f"{package}/py.typed" in held
    assert held == files_of(package)


def test_the_wheel_has_nothing_else(distributions):
    with zipfile.ZipFile(distributions[1]) as wheel:
        tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert tops == {*PACKAGES, f"dainv-{dainv.__version__}.dist-info"}


def test_metadata(distributions):
    with zipfile.ZipFile(distributions[1]) as wheel:
        folder = f"dainv-{dainv.__version__}.dist-info"
        about = email.message_from_bytes(wheel.read(f"{folder}/METADATA"))
        commands = wheel.read(f"{folder}/entry_points.txt").decode()
    assert about["Version"] == dainv.__version__
    assert about["License-Expression"] == "MIT"
    assert about["Requires-Python"] == ">=3.10"
    assert 'triton; platform_system == "Linux"' in about.get_all("Requires-Dist")
    assert "dainv = dainv.cli:main" in commands
    assert "dainv-bench = dainv_bench.cli:main" in commands


def test_the_source_distribution_can_be_tested(distributions):
    unpacked = distributions[0]
    for name in ("tests", "docs", "examples"):
        wanted = {p.relative_to(ROOT) for p in (ROOT / name).rglob("*") if p.is_file() and "__pycache__" not in p.parts}
        assert all((unpacked / path).exists() for path in wanted)
    for name in ("Makefile", "constraints.txt", "CITATION.cff", "kernels/README.md", "benchmarks/results"):
        assert (unpacked / name).exists(), name


def test_the_version_stands_in_one_place():
    for command, name in ((main, "dainv"), (dainv_bench.cli.main, "dainv-bench")):
        assert CliRunner().invoke(command, ["--version"]).output == f"{name}, version {dainv.__version__}\n"
    assert f"\nversion: {dainv.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_python_dash_m_dainv_bench_is_the_command():
    assert python("-m", "dainv_bench", "--version").startswith("dainv-bench, version")


@pytest.mark.parametrize("shell", ["zsh", "fish"])  # for bash, click asks which bash there is
@pytest.mark.parametrize(
    ("name", "command", "verb"), [("dainv", main, "train"), ("dainv-bench", dainv_bench.cli.main, "overhead")]
)
def test_completion_for_shells(name, command, verb, shell):
    variable = f"_{name.upper().replace('-', '_')}_COMPLETE"

    def complete(instruction, **environment):
        runner = CliRunner(env={variable: instruction, **environment})
        return runner.invoke(command, prog_name=name).output

    assert f"{variable}={shell}_complete" in complete(f"{shell}_source")
    assert verb in complete("zsh_complete", COMP_WORDS=f"{name} ", COMP_CWORD="1").splitlines()


WITHOUT_TRITON = """
import sys

class NoTriton:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "triton":
            raise ModuleNotFoundError("No module named 'triton'", name="triton")

sys.meta_path.insert(0, NoTriton())
import torch
from click.testing import CliRunner
import dainv, dainv_bench.cli, dainv_kernels
from dainv.cli import main

assert all(getattr(module, name) is not None for module in (dainv, dainv_kernels) for name in module.__all__)
status = dainv_kernels.backend_status()
assert status["triton"].startswith("Triton cannot be imported"), status
assert "triton" not in dainv_kernels.available_backends()
try:
    dainv.invariance_loss(torch.randn(4, 3), torch.tensor([0, 0, 1, 1]), backend="triton")
except RuntimeError as error:
    assert "Triton cannot be imported" in str(error)
else:
    raise AssertionError("no error")

images, groups = torch.rand(8, 3, 8, 8), dainv.Groups.consecutive(4, 2)
model = dainv.AllCNNC(width=0.05)
objective = dainv.InvarianceObjective(model, "layer?", groups=groups)
loss = objective(torch.nn.functional.cross_entropy(model(images), torch.arange(8)))
loss.total.backward()
assert model.layer1.conv.weight.grad.isfinite().all()
activation, fused = dainv_kernels.relu_invariance(torch.randn(8, 5), groups)
torch.testing.assert_close(fused, dainv.invariance_loss(activation, groups, backend="reference"))
assert dainv.pairwise_mse(activation).shape == (8, 8)
transform = dainv.augmentation("half-extremes")
scores = dainv.invariance_scores(model, images, layers="layer9", transform=transform, repeats=1)
assert scores.sigma["layer9"].shape == (1, 8)

for command in (
    "train --data digits --width 0.05 --batch-size 16 --views 4 --steps 2 --device cpu --fused --run-dir run",
    "train --data digits --width 0.05 --steps 2 --device cpu --dry-run",
    "evaluate run --device cpu",
    "layers allcnn",
    "env",
):
    result = CliRunner().invoke(main, command.split())
    assert result.exit_code == 0, result.output
    if "--fused" in command:
        assert "Triton cannot be imported" in result.output, result.output
assert CliRunner().invoke(dainv_bench.cli.main, ["overhead", "--help"]).exit_code == 0
print("done")
"""


def test_everything_but_triton_works_without_triton(tmp_path):
    program = tmp_path / "without.py"
    program.write_text(WITHOUT_TRITON)
    assert python(program, cwd=tmp_path).endswith("done\n")
