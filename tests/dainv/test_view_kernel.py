"""The kernel that makes the views of a step on a GPU, against the operations of torch that do so elsewhere."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dainv.augment import SCHEMES, Augmentation, augmentation, draw_uniform
from dainv.training.views import Views

pytest.importorskip("triton", minversion="3.4", reason="Triton's wheels are for Linux; older ones compile no tuples")
view_kernel = pytest.importorskip("dainv.training.view_kernel")

K, M = 2, 3


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """On a CPU Triton's interpreter does the work, where there is no GPU."""
    if request.param == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("Triton kernels run on the GPU here, not in the interpreter")
    return torch.device(request.param)


def images(device: torch.device, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (K, *shape), dtype=torch.uint8, generator=generator).to(device)


def both(device: torch.device, scheme: Augmentation, *shape: int) -> tuple[Tensor, Tensor]:
    given, uniform = images(device, *shape), draw_uniform(K * M, torch.Generator().manual_seed(1)).to(device)
    repeated = given.to(torch.float32).div(255).repeat_interleave(M, dim=0)
    expected = scheme.apply(repeated, scheme.parameters_of(uniform))
    return view_kernel.augmented_views(given, uniform, M, scheme), expected


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("name", [name for name, scheme in SCHEMES.items() if scheme.ranges])
def test_views_are_those_of_torch(name: str, interpolation: str, device: torch.device) -> None:
    made, expected = both(device, augmentation(name, interpolation), 3, 7, 9)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)
    assert made.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(made[1:], made[:-1])


@pytest.mark.parametrize("part", [("brightness",), ("contrast",), ("flip",), ("rotation", "contrast")], ids=" ".join)
def test_what_a_scheme_does_not_change_stays(part: tuple[str, ...], device: torch.device) -> None:
    heavier = SCHEMES["heavier"]
    scheme = replace(heavier, ranges={name: heavier.ranges[name] for name in part}, draw="uniform")
    made, expected = both(device, scheme, 1, 6, 5)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


def test_images_larger_than_a_program_holds_at_a_time(device: torch.device) -> None:
    made, expected = both(device, SCHEMES["heavier"], 1, 40, 33)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("share", [slice(None), slice(1, 3)])
def test_a_step_draws_the_same_for_the_kernel_and_for_torch(share: slice, device: torch.device) -> None:
    """In one process and in one of several, which has some of the images of the batch."""
    made = []
    for in_one in (True, False):
        views = Views(SCHEMES["heavier"], M, 3, share, torch.Generator(device).manual_seed(5))
        views._in_one = in_one
        given = torch.cat([images(device, 3, 6, 6)] * 2)[: len(range(*share.indices(3)))]
        made.append((*views(given, torch.arange(len(given), device=device)), views.generator.get_state()))
    (one, labels, drawn), (other, expected_labels, expected_drawn) = made
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert torch.equal(labels, expected_labels)
    assert torch.equal(drawn, expected_drawn)


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from dainv.augment import SCHEMES
from dainv.training import view_kernel
signature = dict(images_ptr="*u8", uniform_ptr="*fp32", views_ptr="*fp32", views="i32", height="i32", width="i32")
constants = view_kernel.constants(SCHEMES["heavier"])
source = ASTSource(view_kernel.views_kernel, {**signature, **dict.fromkeys(constants, "constexpr")}, constants)
made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=view_kernel.OPTIONS)
print(len(made.asm["cubin"]))
"""


def test_it_is_compiled_for_a_gpu_that_is_not_there() -> None:
    root = Path(__file__).parents[2]
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment = {**inherited, "PYTHONPATH": os.pathsep.join(map(str, (root, root / "kernels")))}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1000
