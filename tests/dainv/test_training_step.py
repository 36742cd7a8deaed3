"""The step as one object: eager and recorded, in every precision, from any moment on."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
from training_runs import Recorder, after, comparable, interrupted, run, trainer_of, weights_of

from dainv import UserError
from dainv.models.allcnn import AllCNNC
from dainv.runs import RunDirectory
from dainv.training.captured import CapturedStep, CaptureError, _Snapshot
from dainv.training.optimizer import capturable_sgd, load_optimizer_state, optimizer_state, set_learning_rate


def assert_same_bits(found, expected):
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


# Recorded


def test_a_step_on_static_inputs_is_the_eager_step(tiny):
    """As on a GPU, up to the recording: warm-up steps leave no trace in weights, buffers, momentum or generator."""
    eager, captured = (trainer_of(tiny, batch_norm=True, epochs=2) for _ in range(2))
    captured.training_step._capture = True
    assert_same_bits(after(captured, 4), after(eager, 4))
    assert captured.training_step.captured
    assert not captured.training_step.recorded  # there is no graph on a CPU
    for one in (eager, captured):
        one.prepare_epoch(1)  # momentum there is by now
    captured.training_step.forget()
    assert_same_bits(after(captured, 4), after(eager, 4))
    assert torch.equal(captured.draws.get_state(), eager.draws.get_state())


def test_a_step_that_cannot_be_recorded_runs_eagerly_and_says_why(tiny, monkeypatch):
    def broken(step, example, **_options):
        raise CaptureError("operation not permitted when stream is capturing")

    monkeypatch.setattr("dainv.training.step.CapturedStep", broken)
    recorder = Recorder()
    trainer = trainer_of(tiny, recorder)
    trainer.training_step._capture = True
    assert_same_bits(after(trainer, 3), after(trainer_of(tiny), 3))
    assert recorder.messages == [
        "--cuda-graph: the step cannot be recorded (operation not permitted when stream is capturing); it runs eagerly"
    ]


def test_a_graph_asked_for_where_none_can_be_is_said_so(tiny):
    recorder = Recorder()
    trainer_of(tiny, recorder, cuda_graph=True)
    trainer_of(tiny, recorder, cuda_graph=False)
    assert recorder.messages == ["--cuda-graph: a step is recorded by one process on one GPU; here it runs eagerly"]


def test_inputs_are_copied_in_their_layout():
    seen = []
    module = torch.nn.Linear(1, 1)
    x = torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    step = CapturedStep(seen.append, [x], module=module, optimizer=optimizer, warmup=1)
    later = torch.rand(2, 3, 4, 4)
    step(later)
    assert seen[0] is seen[1]
    assert seen[1] is not x
    assert torch.equal(seen[1], later)
    assert seen[1].is_contiguous(memory_format=torch.channels_last)


class FakeGraph:
    def register_generator_state(self, _generator):
        events.append("register")

    def replay(self):
        events.append("replay")


class FakeStream:
    def wait_stream(self, _other):
        pass


events = []


@contextmanager
def fake_recording(_graph, stream, capture_error_mode):
    events.append("record")
    yield
    events.append("recorded")


@pytest.fixture
def fake_cuda(monkeypatch):
    stand_ins = {
        "Stream": FakeStream,
        "current_stream": FakeStream,
        "stream": lambda _stream: nullcontext(),
        "CUDAGraph": FakeGraph,
        "graph": fake_recording,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    events.clear()


@pytest.mark.parametrize("told", [["register"], []], ids=["torch < 2.14", "torch >= 2.14"])
def test_a_step_is_warmed_up_put_back_recorded_and_replayed(fake_cuda, monkeypatch, told):
    monkeypatch.setattr("dainv.training.captured._FINDS_GENERATORS", not told)
    module = torch.nn.Linear(1, 1)
    start = module.weight.detach().clone()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(1)

    def step(x):
        events.append("step from the start" if torch.equal(module.weight, start) else "step")
        with torch.no_grad():
            module.weight.add_(torch.rand(1, generator=generator))
        return f"result {len(events)}"

    captured = CapturedStep(step, [torch.zeros(2)], module=module, optimizer=optimizer, warmup=0)
    drawn = generator.get_state()
    captured._result = captured._record(2, _Snapshot(module, optimizer, [generator]))
    assert events == ["step from the start", "step", *told, "record", "step from the start", "recorded"]
    assert captured.recorded
    generator.set_state(drawn)
    assert captured(torch.ones(2)) == f"result {4 + len(told)}"  # what was recorded, not a new step
    assert events[5 + len(told) :] == ["replay"]
    assert torch.equal(captured._inputs[0], torch.ones(2))


def test_a_recording_that_fails_says_why_in_a_line(fake_cuda, monkeypatch):
    module = torch.nn.Linear(1, 1)

    @contextmanager
    def failing(_graph, stream, capture_error_mode):
        assert capture_error_mode == "thread_local"  # or a DataLoader's thread that pins memory would break it
        try:
            yield
        finally:
            raise RuntimeError("CUDA error: failed due to a previous error during capture")

    def step(x):
        if recording:
            raise RuntimeError("CUDA error: not permitted\nCompile with TORCH_USE_CUDA_DSA")

    restored = []

    class FakeGenerator:
        def get_state(self):
            return "state"

        set_state = graphsafe_set_state = restored.append

        def clone_state(self):
            return "clone"

    recording = False
    monkeypatch.setattr(torch.cuda, "graph", failing)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    captured = CapturedStep(step, [torch.zeros(2)], module=module, optimizer=optimizer, warmup=0)
    recording = True
    with pytest.raises(CaptureError, match=r"^CUDA error: not permitted$"):
        captured._record(0, _Snapshot(module, optimizer, [FakeGenerator()]), [FakeGenerator()])
    assert restored == ["state", "clone", "clone", "state"]  # after the warm-up; both generators; what they had drawn


# Optimizer


def test_a_learning_rate_that_is_a_tensor_is_changed_in_place():
    module = torch.nn.Linear(2, 1)
    for rate in (0.5, torch.tensor(0.5)):
        optimizer = torch.optim.SGD(module.parameters(), lr=rate)
        set_learning_rate(optimizer, 0.25)
        assert float(optimizer.param_groups[0]["lr"]) == 0.25
        assert (optimizer.param_groups[0]["lr"] is rate) == isinstance(rate, torch.Tensor)


def test_the_state_of_an_optimizer_moves_between_devices():
    """A learning rate may be a tensor there and a number here; the options are those of where it goes."""
    module = torch.nn.Linear(2, 1)
    there = torch.optim.SGD(module.parameters(), lr=torch.tensor(0.5), momentum=0.9, foreach=True)
    module(torch.ones(1, 2)).backward()
    there.step()
    state = optimizer_state(there)
    assert state["param_groups"][0]["lr"] == 0.5
    here = capturable_sgd(module, 0.1, 0.9)
    load_optimizer_state(here, state)
    assert here.param_groups[0]["lr"] == 0.1
    assert here.param_groups[0]["foreach"] is None
    for parameter in module.parameters():
        assert torch.equal(here.state[parameter]["momentum_buffer"], there.state[parameter]["momentum_buffer"])


# Precision


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", False), ("tf32", True), ("bf16", True)])
def test_a_precision_decides_what_a_gpu_may_round(tiny, precision, tf32):
    trainer_of(tiny, precision=precision)
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (tf32, tf32)


def test_bfloat16_trains_nearly_as_float32_and_keeps_losses_and_weights_in_float32(tiny):
    seen = {}

    def remember(_module, _inputs, output):
        seen["conv"] = output.dtype

    trainer, exact = trainer_of(tiny, precision="bf16", width=0.1), trainer_of(tiny, width=0.1)
    trainer.model.layer2.conv.register_forward_hook(remember)
    (rows, weights), (expected, exact_weights) = after(trainer, 5), after(exact, 5)
    assert seen["conv"] == torch.bfloat16
    assert rows.dtype == torch.float32
    assert all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())
    losses = [column for column in range(rows.shape[1]) if column != 2]  # one sample more or less is right
    torch.testing.assert_close(rows[:, losses], expected[:, losses], rtol=0.05, atol=0)
    assert not torch.equal(rows[:, losses], expected[:, losses])
    start = torch.cat([v.double().flatten() for v in trainer_of(tiny, width=0.1).model.state_dict().values()])
    assert (weights - exact_weights).norm() < 0.3 * (exact_weights - start).norm()


def test_a_bfloat16_run_resumes_to_the_same_bits_and_no_other(tmp_path, tiny, monkeypatch):
    whole, _ = run(tmp_path, tiny, "whole", epochs=2, precision="bf16")
    interrupted(monkeypatch, 5, tmp_path, tiny, "stopped", epochs=2, precision="bf16")
    with pytest.raises(UserError, match=r"--precision is bf16 in .*, not fp32"):
        run(tmp_path, tiny, "stopped", resume=True, epochs=2)
    resumed, _ = run(tmp_path, tiny, "stopped", resume=True, epochs=2, precision="bf16")
    assert torch.equal(weights_of(resumed), weights_of(whole))
    assert comparable(resumed) == comparable(whole)


# Other models


def test_any_network_trains_with_layers_by_pattern_and_resumes_to_the_same_bits(tmp_path, tiny, monkeypatch):
    """It has dropout and batch normalisation, so that a generator or a buffer that is not kept shows."""
    options = {"epochs": 2, "model": "training_runs:small_network", "layers": ("*relu",), "width": 1.0}
    whole, recorder = run(tmp_path, tiny, "whole", **options)
    assert whole.config["model"]["name"] == options["model"]
    assert whole.config["layers"] == list(recorder.records[-1]["train"]["invariance"]) == ["first.relu", "second.relu"]
    interrupted(monkeypatch, 2, tmp_path, tiny, "stopped", **options)
    resumed, _ = run(tmp_path, tiny, "stopped", resume=True, **options)
    assert torch.equal(weights_of(resumed), weights_of(whole))
    assert comparable(resumed) == comparable(whole)


# What a run goes on with


def test_a_resumed_run_keeps_the_backend_that_it_was_started_with(tmp_path, tiny, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("dainv.training.resume.resolve_backend", lambda *_: "reference")
        interrupted(monkeypatch, 2, tmp_path, tiny, "stopped", epochs=1)
        assert RunDirectory.open(tmp_path / "stopped").config["backend"] == "reference"
    seen = []
    losses = AllCNNC.forward_losses

    def listening(self, *arguments, **options):
        seen.append(options["backend"])
        return losses(self, *arguments, **options)

    monkeypatch.setattr(AllCNNC, "forward_losses", listening)
    _, recorder = run(tmp_path, tiny, "stopped", resume=True, epochs=1)
    assert set(seen) == {"reference"}
    assert recorder.messages == ["resuming at step 3 of 4"]


def test_a_backend_that_does_not_work_here_is_replaced_and_said_so(tmp_path, tiny, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("dainv.training.resume.resolve_backend", lambda *_: "torch")
        interrupted(monkeypatch, 2, tmp_path, tiny, "stopped", epochs=1)
    path = tmp_path / "stopped" / "config.json"
    path.write_text(path.read_text().replace('"backend": "torch"', '"backend": "triton"'))
    monkeypatch.setattr("dainv_kernels.backends._why_not_triton", lambda: "no CUDA device")
    _, recorder = run(tmp_path, tiny, "stopped", resume=True, epochs=1)
    assert "started with backend triton, which does not work here" in recorder.messages[0]
    assert "no CUDA device" in recorder.messages[0]


def test_a_run_goes_on_with_other_draws_on_another_kind_of_device(tmp_path, tiny, monkeypatch):
    interrupted(monkeypatch, 2, tmp_path, tiny, "stopped", epochs=1)
    for path in (tmp_path / "stopped" / "checkpoints").glob("*.pt"):
        state = torch.load(path, weights_only=True)
        state["augmentation_generator"] = torch.zeros(16, dtype=torch.uint8)  # as a GPU's
        torch.save(state, path)
    directory, recorder = run(tmp_path, tiny, "stopped", resume=True, epochs=1)
    assert "other augmentations" in recorder.messages[0]
    assert [record["epoch"] for record in directory.metrics()] == [0, 1]


def test_a_run_with_updates_and_without_checkpoints_is_not_started_anew(tmp_path, tiny):
    directory, _ = run(tmp_path, tiny, epochs=1)
    for path in directory.checkpoints():
        path.unlink()
    before = (directory.path / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match="metrics of 4 updates but no checkpoint") as refusal:
        run(tmp_path, tiny, resume=True, epochs=1)
    assert "\n" not in str(refusal.value)
    assert (directory.path / "metrics.jsonl").read_bytes() == before


# On a GPU


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{}, {"fused": True, "clip_gradients": 1.0}, {"batch_norm": True, "alpha": 0.0}])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_two_hundred_recorded_steps_are_the_eager_ones(tiny, options, precision):
    found = []
    for cuda_graph in (False, True):
        trainer = trainer_of(
            tiny, device="cuda", width=0.25, precision=precision, cuda_graph=cuda_graph, steps=200, **options
        )
        found.append(after(trainer, 200))
        assert trainer.training_step.recorded == cuda_graph
    (rows, weights), (expected, eager) = found[1], found[0]
    bound = 1e-2 if precision == "bf16" else 1e-4
    torch.testing.assert_close(rows[:, 0], expected[:, 0], rtol=bound, atol=bound)
    assert (weights - eager).norm() < bound * eager.norm()


@pytest.mark.gpu
def test_a_recorded_run_follows_its_schedules_and_resumes_in_the_middle_of_an_epoch(tmp_path, tiny, monkeypatch):
    options = {"device": "cuda", "epochs": 3, "alpha_schedule": "100:5,230:0", "width": 0.25}
    whole, recorder = run(tmp_path, tiny, "whole", cuda_graph=True, **options)
    assert recorder.messages == []
    eager, _ = run(tmp_path, tiny, "eager", cuda_graph=False, **options)
    interrupted(monkeypatch, 5, tmp_path, tiny, "stopped", cuda_graph=True, **options)
    resumed, _ = run(tmp_path, tiny, "stopped", resume=True, cuda_graph=True, **options)
    for other in (eager, resumed):
        assert (weights_of(other) - weights_of(whole)).norm() < 1e-5 * weights_of(whole).norm()
    assert whole.metrics()[-1]["device_memory"]["allocated"] > 0
