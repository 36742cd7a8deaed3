"""Each example as its reader runs it: as a file, on a few steps of real digits."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dainv

EXAMPLES = Path(__file__).parents[2] / "examples"
ALLCNN = [f"layer{number}" for number in range(1, 10)]

# name: (libraries it needs, layers it listens to, further arguments of main)
HERE = {
    "torch_loop": ((), ["0.0", "0.1", "0.2"], {}),
    "class_wise": ((), ALLCNN[6:], {}),
    "video_frames": ((), ALLCNN, {}),
    "compiled": ((), ["layer1", "layer2", "layer3"], {"compiler": "aot_eager"}),
    "lightning_module": (("lightning",), ALLCNN, {}),
    "huggingface_trainer": (("transformers", "accelerate"), ["vit.layers.0", "vit.layers.1"], {}),
    "timm_training": (("timm",), ["layer1", "layer2", "layer3", "layer4"], {}),
}


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def need(libraries):
    for library in libraries:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed (pip install '.[examples]')")


@pytest.mark.parametrize("name", HERE)
@pytest.mark.filterwarnings("ignore")  # those of other libraries
def test_the_objective_reaches_the_weights(name, tmp_path, monkeypatch):
    """Trained for almost nothing but invariance, a network is less variable than without, on the same batches."""
    libraries, layers, options = HERE[name]
    need(libraries)
    monkeypatch.chdir(tmp_path)
    example = load(name)
    without, with_objective = (example.main(steps=5, alpha=alpha, **options) for alpha in (0.0, 0.9))
    assert list(with_objective) == layers
    assert sum(with_objective.values()) < sum(without.values())


def test_hugging_faces_trainer_accumulates_the_gradient_of_the_whole_objective(tmp_path):
    need(("transformers", "accelerate"))
    import transformers

    example = load("huggingface_trainer")
    torch.manual_seed(0)
    batch = example.collate([{"pixel_values": torch.rand(3, 8, 8), "labels": torch.tensor(label)} for label in (0, 1)])

    def gradient(batches):
        torch.manual_seed(0)
        sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        model = transformers.ViTForImageClassification(
            transformers.ViTConfig(image_size=8, patch_size=4, num_labels=2, **sizes)
        )
        found = []

        class Look(transformers.TrainerCallback):
            def on_pre_optimizer_step(self, *_args, **_kwargs):
                found.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))

        trainer = example.InvarianceTrainer(
            model=model,
            args=transformers.TrainingArguments(
                tmp_path, max_steps=1, per_device_train_batch_size=2, gradient_accumulation_steps=batches,
                max_grad_norm=0, save_strategy="no", report_to="none", use_cpu=True,
            ),
            train_dataset=range(2 * batches),
            data_collator=lambda _: dict(batch),
            objective=dainv.InvarianceObjective(model, "vit.layers.0", alpha=0.5),
            callbacks=[Look],
        )  # fmt: skip
        trainer.train()
        return found[0]

    assert torch.allclose(gradient(2), gradient(1), rtol=1e-4, atol=1e-6)


def test_every_example_is_tested_and_listed():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {*HERE, "ddp"}
    listed = (EXAMPLES / "README.md").read_text()
    assert all(f"({name}.py)" in listed for name in names)


def test_a_script_prints_what_it_does():
    result = subprocess.run(
        [sys.executable, EXAMPLES / "torch_loop.py"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[1] for line in result.stdout.splitlines()] == ["20", "40", "60"]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_two_processes_agree_on_the_losses(tmp_path):
    """Statistics over all processes are the same numbers on each of them."""
    program = tmp_path / "two.py"
    program.write_text(
        f"import json, os, sys\nsys.path.insert(0, {str(EXAMPLES)!r})\nimport ddp\n"
        f"losses = ddp.main(steps=2)\n"
        f"open({str(tmp_path)!r} + '/rank' + os.environ['RANK'], 'w').write(json.dumps(losses))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", program]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    first, second = (json.loads((tmp_path / f"rank{rank}").read_text()) for rank in (0, 1))
    assert list(first) == ALLCNN
    assert first == pytest.approx(second, rel=1e-6)
