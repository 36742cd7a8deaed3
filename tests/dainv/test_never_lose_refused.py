"""What a run does not go on with: other settings, other data, other people's pickles."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from losing_lab import (
    EPOCHS,
    KILLS,
    OPTIONS,
    check_one_line,
    check_same,
    checkpoints,
    contents,
    copy,
    differences,
    linux,
    read,
)

import dainv
import dainv_kernels
from dainv import UserError
from dainv.runs import RunDirectory

pytestmark = linux


CHANGES = {
    "--alpha": "0.2",
    "--seed": "1",
    "--learning-rate": "0.02",
    "--batch-norm": None,
    "--batch-size": "16",
    "--views": "2",
    "--width": "0.1",
    "--epochs": "4",
    "--momentum": "0.8",
    "--weight-decay": "0.001",
    "--augmentation": "light",
    "--interpolation": "nearest",
    "--spread": "5",
    "--scheme": "linear",
    "--normalization": "printed",
}


def test_changed_settings_are_refused_by_name(lab, whole, interrupted, tmp_path):
    run = copy(interrupted, tmp_path)
    before = contents(run)
    for option, value in list(CHANGES.items())[: None if KILLS else 4]:
        code, errors = lab(run, option, *([value] if value else []))
        check_one_line(code, errors)
        assert option in errors
        assert contents(run) == before
    lab.finish(run, "--alpha", "0.1", "--epochs", str(EPOCHS))  # the same again is no change
    check_same(run, whole)


def test_other_data_of_the_same_name_are_refused(lab, interrupted, tmp_path):
    run = copy(interrupted, tmp_path)
    with np.load(lab.folder / "data.npz") as archive:
        arrays = dict(archive)
    arrays["x_train"][0, 0, 0, 0] ^= 1
    (tmp_path / "other").mkdir()
    np.savez(tmp_path / "other" / "data.npz", **arrays)
    before = contents(run)
    check_one_line(*lab(run, "--data", str(tmp_path / "other" / "data.npz")))
    assert contents(run) == before


def test_data_that_are_elsewhere_now_can_be_named(lab, whole, interrupted, tmp_path):
    run = copy(interrupted, tmp_path)
    config = json.loads((run / "config.json").read_text())
    config["settings"]["data"] = "moved/data.npz"
    (run / "config.json").write_text(json.dumps(config))
    code, errors = lab(run)
    check_one_line(code, errors)
    assert "moved/data.npz is not here; --data says" in errors
    lab.finish(run, "--data", str(lab.folder / "data.npz"))
    assert differences(read(checkpoints(run)[-1]), read(checkpoints(whole)[-1])) == []


@pytest.mark.parametrize(("edited", "said"), [({}, "no settings"), ({"settings": {"alpha": "x"}}, "--alpha: expected")])
def test_a_config_that_was_edited_is_refused_in_a_line(lab, interrupted, tmp_path, edited, said):
    run = copy(interrupted, tmp_path)
    (run / "config.json").write_text(json.dumps(edited))
    code, errors = lab(run)
    check_one_line(code, errors)
    assert said in errors


@pytest.mark.parametrize("part", ["model", "optimizer"])
def test_a_checkpoint_of_another_network_is_refused_in_a_line(lab, interrupted, tmp_path, part):
    run = copy(interrupted, tmp_path)
    newest = checkpoints(run)[-1]
    state = read(newest)
    state[part] = {}
    torch.save(state, newest)
    code, errors = lab(run)
    check_one_line(code, errors)
    assert "not of this run" in errors


def test_the_run_is_not_started_anew_without_resume(lab, interrupted, tmp_path):
    run = copy(interrupted, tmp_path)
    before = contents(run)
    arguments = ["train", "--data", str(lab.folder / "data.npz"), "--run-dir", str(run), *OPTIONS, "--epochs", "1"]
    job = replace(lab.job(run), arguments=arguments)
    code = lab.server(job)
    check_one_line(code, Path(job.output + ".err").read_text())
    assert contents(run) == before


class Evil:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def test_a_pickle_in_the_place_of_a_checkpoint_is_not_run(interrupted, tmp_path):
    run = copy(interrupted, tmp_path)
    previous, newest = checkpoints(run)[-2:]
    state = read(newest)
    for legacy in (False, True):
        torch.save({**state, "model": Evil(tmp_path / "evil")}, newest, _use_new_zipfile_serialization=not legacy)
        warnings = []
        assert RunDirectory.open(run).load_checkpoint(warn=warnings.append)["step"] == read(previous)["step"]
        assert len(warnings) == 1
        assert not (tmp_path / "evil").exists()
    for checkpoint in (previous, newest):
        torch.save(Evil(tmp_path / "evil"), checkpoint)
    with pytest.raises(UserError):
        RunDirectory.open(run).load_checkpoint(warn=warnings.append)
    assert not (tmp_path / "evil").exists()


def test_files_are_loaded_without_unpickling():
    """In the source: `torch.load` with weights_only=True, `np.load` without allow_pickle, no pickle at all."""
    loads = 0
    for package in (dainv, dainv_kernels):
        for path in Path(package.__file__).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                    assert not {"pickle", "cPickle", "dill", "joblib", "cloudpickle"} & set(names), path
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "np.load", "numpy.load"):
                    options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                    if ast.unparse(node.func) == "torch.load":
                        loads += 1
                        assert options.get("weights_only") == "True", (path, node.lineno)
                    else:
                        assert options.get("allow_pickle", "False") == "False", (path, node.lineno)
    assert loads > 0
