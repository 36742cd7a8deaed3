from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dainv import UserError
from dainv_bench.cli import main
from dainv_bench.resources import cli
from dainv_bench.resources.llvm_code import LlvmCode
from dainv_bench.resources.machine_code import Amd, Nvidia
from dainv_bench.resources.results import KernelResources, ResourcesResult, committed_results, default_resources_path
from dainv_bench.resources.suite import measure_resources
from dainv_bench.resources.summary import README, resources_markdown, resources_summary
from dainv_bench.resources.variants import TARGETS, VARIANTS

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def test_the_readme_shows_what_the_committed_results_say() -> None:
    results = committed_results(RESULTS)
    assert results
    text = (ROOT / "kernels" / "README.md").read_text()
    block = re.search(r"<!-- resources -->\n(.*?)<!-- /resources -->", text, re.DOTALL)
    assert block is not None
    assert block[1] == resources_markdown(results)


@pytest.fixture
def result() -> ResourcesResult:
    """The committed one of the newest Triton."""
    return committed_results(RESULTS)[0]


def test_a_result_is_complete(result: ResourcesResult) -> None:
    assert set(result) == set(ResourcesResult.__annotations__)
    assert set(result["variants"]) == {variant.name for variant in VARIANTS}
    for kernel in result["kernels"]:
        assert set(kernel) == set(KernelResources.__annotations__)
        assert set(kernel["compiled"]) == set(TARGETS)
    assert [line.split(":")[0] for line in resources_summary(result)] == list(TARGETS)


def test_kernels_that_differ_in_registers_alone_share_a_row(result: ResourcesResult) -> None:
    table = resources_markdown([result])
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert 0 < len(rows) < len(result["kernels"])
    assert {row.split("`")[1] for row in rows} == {kernel["kernel"] for kernel in result["kernels"]}
    assert re.search(r"^\| `pair_tiles_kernel` .* float32 .* 16 × 16 × 32 \| \d+ to \d+ / ", table, re.MULTILINE)
    one = result["kernels"][0]
    del result["kernels"][1:]
    before = resources_markdown([result])
    result["kernels"].append(json.loads(json.dumps(one)))
    result["kernels"][1]["compiled"]["sm_90"]["registers"] += 1
    after = resources_markdown([result])
    registers = one["compiled"]["sm_90"]["registers"]
    assert after == before.replace(f" {registers} /", f" {registers} to {registers + 1} /")
    result["kernels"][1]["compiled"]["sm_90"]["spills"] += 1
    assert resources_markdown([result]).count("| `") == 2


def test_the_file_is_named_after_triton_alone(result: ResourcesResult) -> None:
    result["environment"]["libraries"]["triton"] = "3.9.0"
    assert default_resources_path(result) == Path("benchmarks/results/kernel-resources--triton-3.9.0.json")


def test_the_newest_triton_comes_first(result: ResourcesResult, tmp_path: Path) -> None:
    for version in ("3.6.0", "3.10.0", "3.9.1"):
        result["environment"]["libraries"]["triton"] = version
        (tmp_path / f"kernel-resources--{version}.json").write_text(json.dumps(result))
    results = committed_results(tmp_path)
    assert [one["environment"]["libraries"]["triton"] for one in results] == ["3.10.0", "3.9.1", "3.6.0"]
    text = resources_markdown(results)
    assert text.startswith("Triton 3.10.0, by target: registers of a thread")
    assert re.search(r"\nTriton 3\.9\.1 takes \+0 to \+0 registers for \d+ of all the binaries; all of these", text)


@pytest.fixture
def invoke(result: ResourcesResult, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    """The command in a folder of its own, without compiling; tests/kernels does that."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "measure_resources", lambda targets, on_progress: result)
    return lambda *options: CliRunner().invoke(main, ["resources", *options])


def test_command_writes_the_result_and_the_table(invoke: Callable[..., Result], result: ResourcesResult) -> None:
    README.parent.mkdir()
    README.write_text("before\n<!-- resources -->\nold\n<!-- /resources -->\nafter\n")
    done = invoke()
    assert done.exit_code == 0, done.output
    assert json.loads(default_resources_path(result).read_text()) == result
    table = resources_markdown([result])
    assert README.read_text() == f"before\n<!-- resources -->\n{table}<!-- /resources -->\nafter\n"
    assert "sm_90: " in done.output


def test_command_elsewhere_leaves_the_table_alone(invoke: Callable[..., Result], result: ResourcesResult) -> None:
    done = invoke("--out", "one.json")
    assert done.exit_code == 0, done.output
    assert json.loads(Path("one.json").read_text()) == result
    assert "rewritten" not in done.output


def test_some_targets_do_not_replace_all(invoke: Callable[..., Result]) -> None:
    assert invoke("--target", "sm_90").exit_code == 0
    assert list(Path().iterdir()) == []


def test_unknown_target() -> None:
    done = CliRunner().invoke(main, ["resources", "--target", "sm_1"])
    assert done.exit_code == 1
    assert done.stderr == "error: --target: there is no target 'sm_1'; there are sm_80, sm_90, gfx942\n"


def test_a_kernel_that_does_not_compile_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "triton.py").write_text("raise ImportError('this one is broken')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"^the kernels do not compile for sm_90: .*this one is broken"):
        measure_resources(["sm_90"])


def test_reading_nvidia() -> None:
    code = Nvidia(
        """
        /*0030*/                   LDG.E.64 R2, desc[UR4][R2.64] ;
        /*0040*/               @P1 LDG.E.128.CONSTANT R4, desc[UR4][R2.64+0x10] ;
        /*0050*/              @!P1 LDG.E R8, desc[UR4][R2.64] ;
        /*0060*/                   LDG.E.U16 R9, desc[UR4][R2.64] ;
        /*0070*/                   LDGSTS.E.BYPASS.128 [R5], desc[UR4][R2.64] ;
        /*0080*/                   STG.E.128 desc[UR4][R2.64], R4 ;
        /*0090*/                   LDS.128 R4, [R2] ;
        /*00a0*/                   STL [R1], R4 ;
        /*00b0*/                   LDL R4, [R1] ;
        /*00c0*/                   REDUX.SUM UR5, R4 ;
        """,
        " Function f:\n  REG:63 STACK:8 SHARED:0 LOCAL:0 CONSTANT[0]:632",
    )
    assert code.usage() == {"registers": 63, "spills": 2, "stack_bytes": 8}
    assert code.moves("load") == {"2": 1, "4": 1, "8": 1, "16": 2}
    assert code.moves("store") == {"16": 1}
    assert code.atomics() == []
    atomics = "ATOMG.E.ADD.F32.FTZ.RN PT, RZ, [R2], R5 ;\n @P1 RED.E.ADD.STRONG.GPU [R2.64], R5 ;"
    assert Nvidia(atomics, "").atomics() == ["ATOMG.E.ADD.F32.FTZ.RN", "RED.E.ADD.STRONG.GPU"]


def test_reading_amd() -> None:
    code = Amd(
        """
        s_load_dwordx4 s[12:15], s[0:1], 0x28
        buffer_load_dwordx4 v[14:17], v21, s[8:11], 0 offen
        global_load_dword v1, v3, s[4:5]
        global_load_ushort v1, v3, s[4:5]
        ds_read_b128 v[0:3], v4
        buffer_store_dwordx2 v[14:15], v21, s[8:11], 0 offen
    .private_segment_fixed_size: 16
    .sgpr_count:     38
    .sgpr_spill_count: 1
    .vgpr_count:     55
    .vgpr_spill_count: 3
        """
    )
    assert code.usage() == {"registers": 55, "spills": 4, "stack_bytes": 16}
    assert code.moves("load") == {"2": 1, "4": 1, "16": 1}
    assert code.moves("store") == {"8": 1}
    assert code.atomics() == []
    assert Amd("global_atomic_add_f32 v0, v1, s[0:1]").atomics() == ["global_atomic_add_f32"]


def test_tracing_addresses_to_arguments() -> None:
    code = LlvmCode(
        """
define ptx_kernel void @f(ptr addrspace(1) %0, ptr addrspace(1) nofree captures(none) %1, i32 %2, ptr addrspace(1) %3) {
  %5 = getelementptr [4 x i8], ptr addrspace(1) %0, i32 %2
  br label %6
6:
  %7 = phi ptr addrspace(1) [ %5, %4 ], [ %8, %6 ]
  %8 = getelementptr i8, ptr addrspace(1) %7, i64 16
  %9 = tail call { i32, i32 } asm "@$3 ld.global.v2.b32 { $0, $1 }, [ $2 + 0 ];", "l,b"(ptr addrspace(1) %8, i1 %x)
  %10 = tail call ptr addrspace(8) @llvm.amdgcn.make.buffer.rsrc.p8.p1(ptr addrspace(1) %1, i16 0, i64 1, i32 1)
  %11 = tail call <4 x float> @llvm.amdgcn.raw.ptr.buffer.load.v4f32(ptr addrspace(8) %10, i32 %2, i32 0, i32 0)
  %12 = load <1 x double>, ptr addrspace(1) %1, align 8
  %13 = load <4 x float>, ptr addrspace(3) %1, align 16
  tail call void asm "cp.async.ca.shared.global [ $0 + 0 ], [ $1 + 0 ], 0x4, 0x4;", "r,l"(i32 %z, ptr addrspace(1) %1)
  tail call void asm "@$2 st.global.b16 [ $1 + 0 ], { $0 };", "r,l,b"(i16 %y, ptr addrspace(1) %7, i1 %x)
}
        """,
        ["x_ptr", "y_ptr", "n"],
    )
    assert code.argument_moves("load") == {"x_ptr": [8], "y_ptr": [4, 8, 16]}
    assert code.argument_moves("store") == {"x_ptr": [2]}
