"""Training with two processes (gloo, on the CPU) as with two GPUs: torchrun and multi_gpu_train.json."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from monai_sparse_refine.networks import MaskRefiner

LAUNCHER = (
    *(sys.executable, "-W", "ignore"),
    *("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, start_training):
    """Work folder and output of two epochs, the second one after a restart with two processes again."""
    work = tmp_path_factory.mktemp("work")
    narrow = MaskRefiner(channels=[4, 4, 6, 6, 8], engine="native")
    torch.save(narrow.state_dict(), work / "narrow.pt")
    printed = []
    for epochs in (1, 2):
        process = start_training(
            "train.json",
            "multi_gpu_train.json",
            launcher=LAUNCHER,
            work_dir=work,
            max_epochs=epochs,
            batch_size=1,
            start_from=work / "narrow.pt",
            # An odd number of cases: one process validates one more than the other.
            validation_phantoms=3,
        )
        text = process.communicate(timeout=400)[0]
        assert process.returncode == 0, text
        printed.append(text)
    return work, printed


@pytest.mark.slow
def test_both_processes_share_the_epoch_and_resume(trained):
    work, (_, second) = trained
    assert second.count("resuming after epoch 1 of 2") == 2
    state = torch.load(work / "checkpoints" / "checkpoint_epoch=2.pt", weights_only=True)
    # Four skulls, two processes: two steps an epoch each.
    assert {int(entry["step"]) for entry in state["optimizer"]["state"].values()} == {2 * 2}


@pytest.mark.slow
def test_both_processes_start_from_given_weights(trained):
    work, (first, _) = trained
    assert first.count(f"starting from {work / 'narrow.pt'}") == 2


@pytest.mark.slow
def test_checkpoints_have_the_names_of_one_process(trained):
    work, _ = trained
    state = torch.load(work / "checkpoints" / "checkpoint_epoch=2.pt", weights_only=True)
    best = torch.load(work / "checkpoints" / "best.pt", weights_only=True)
    assert set(state["network"]) == set(best["model"])
    assert not any(name.startswith("module.") for name in best["model"])


@pytest.mark.slow
def test_one_process_alone_writes_and_reports(trained):
    work, (first, _) = trained
    assert len(list((work / "checkpoints").glob("checkpoint_epoch=1.pt"))) == 1
    assert first.count("Epoch[1] Metrics") == 1


@pytest.mark.slow
def test_a_single_process_goes_on_with_its_checkpoint(trained, start_training):
    work, _ = trained
    process = start_training("train.json", work_dir=work, max_epochs=3, batch_size=1)
    text = process.communicate(timeout=300)[0]
    assert process.returncode == 0 and "resuming after epoch 2 of 3" in text, text


GRADIENTS = """
import gc
import torch, torch.distributed as dist
from monai_sparse_refine.losses import LevelwiseGenerativeLoss
from monai_sparse_refine.networks import MaskRefiner

dist.init_process_group("gloo")
torch.manual_seed(0)
network = torch.nn.parallel.DistributedDataParallel(MaskRefiner(channels=(4, 4, 6), engine="native"))
mask = (torch.rand(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(dist.get_rank())) > 0.7).float()
LevelwiseGenerativeLoss()(network(mask, target=mask)).backward()
gradient = torch.cat([p.grad.flatten() for p in network.parameters()])
both = [torch.zeros_like(gradient) for _ in range(2)]
dist.all_gather(both, gradient)
assert gradient.abs().sum() > 0 and torch.equal(*both), "gradients differ"
dist.barrier()  # a process that leaves while the other one still talks aborts it
del network  # it holds the group, whose threads must not outlive it,
gc.collect()  # and is part of a cycle
dist.destroy_process_group()
"""


def test_gradients_are_averaged_over_the_processes(tmp_path):
    script = tmp_path / "gradients.py"
    script.write_text(GRADIENTS)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    result = subprocess.run(
        [*LAUNCHER, str(script)], capture_output=True, text=True, timeout=200, env=environment
    )
    assert result.returncode == 0, result.stderr
