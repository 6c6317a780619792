"""Train a mask refiner with MONAI's stock trainer and evaluator: accumulation, AMP, resume, several processes.

    python examples/train_with_ignite.py --work-dir runs/example
    torchrun --nproc_per_node=2 examples/train_with_ignite.py --work-dir runs/example --accumulate 4

It learns to complete skulls with a hole. Without --data the skulls are procedural phantoms. Run it again with more
epochs, or after a kill, and it goes on after the last whole epoch.
"""

from __future__ import annotations

import argparse
import gc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
import torch.distributed as dist
from monai.data import CacheDataset, DataLoader, DistributedSampler
from monai.data.utils import pad_list_data_collate
from monai.engines import PrepareBatchExtraInput, SupervisedEvaluator, SupervisedTrainer
from monai.handlers import CheckpointSaver, StatsHandler, ValidationHandler, from_engine
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    CopyItemsd,
    LoadImaged,
    Orientationd,
    SelectItemsd,
)
from monai.utils import set_determinism
from torch.nn.parallel import DistributedDataParallel

from monai_sparse_refine.data import complete_skulls, defect_cases, phantom_cases
from monai_sparse_refine.losses import LevelwiseGenerativeLoss
from monai_sparse_refine.metrics import (
    BorderDice,
    CaseCsvHandler,
    ImplantDice,
    ReconstructionError,
    SurfaceDistance95,
)
from monai_sparse_refine.networks import MaskRefiner
from monai_sparse_refine.training import BestWeights, resume
from monai_sparse_refine.transforms import (
    FixedCranialDefectd,
    RandCranialDefectd,
    RandWarpMaskd,
    ResampleToSpacingd,
    ToBinaryMaskd,
)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    cuda = torch.cuda.is_available()
    device = torch.device(f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if cuda else "cpu")
    if world > 1:
        dist.init_process_group("nccl" if cuda else "gloo")
        idist.sync()  # Ignite does this on first use, which only some processes may come to
    train(options, device, rank, world)
    if world > 1:
        # Whatever holds the group must be gone first, for its threads must not outlive it; and a process that leaves
        # while another one still talks aborts it.
        gc.collect()
        dist.barrier()
        dist.destroy_process_group()


def train(options: argparse.Namespace, device: torch.device, rank: int, world: int) -> None:
    """Build network, engines and handlers, and run, from a checkpoint where there is one."""
    set_determinism(options.seed + rank)

    # Every process has the same weights to begin with: DistributedDataParallel sends those of the first.
    network = MaskRefiner(channels=options.channels).to(device)
    model = DistributedDataParallel(network) if world > 1 else network
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, amsgrad=True)

    evaluator = make_evaluator(options, network, device, rank, world)
    checkpoint = {"network": network, "optimizer": optimizer}
    handlers: list[Any] = [ValidationHandler(1, evaluator)]
    if rank == 0:  # one process writes
        folder = str(options.work_dir / "checkpoints")
        handlers += [
            StatsHandler(tag_name="loss", output_transform=from_engine(["loss"], first=True)),
            CheckpointSaver(folder, checkpoint, save_interval=1, n_saved=2),
        ]
    trainer = SupervisedTrainer(
        device=device,
        max_epochs=options.epochs,
        train_data_loader=training_loader(options, rank, world),
        network=model,
        optimizer=optimizer,
        loss_function=LevelwiseGenerativeLoss(normalize=True, known_weight=0.1),
        prepare_batch=PrepareBatchExtraInput(
            extra_keys={"target": "label"}
        ),  # the network is told the target
        decollate=False,  # a sparse prediction is one object, not a batch
        accumulation_steps=options.accumulate,
        amp=options.amp
        and device.type == "cuda",  # dense parts in half precision, sparse ones in what their engine can do
        train_handlers=handlers,
    )
    resume(trainer, checkpoint, options.work_dir / "checkpoints", device)
    if trainer.state.epoch < options.epochs:
        trainer.run()


def make_evaluator(
    options: argparse.Namespace, network: torch.nn.Module, device: torch.device, rank: int, world: int
) -> SupervisedEvaluator:
    """Implants are scored in mm, each case has its row in a table, and the best weights are kept."""
    masks = from_engine(["pred", "label", "defective"])
    handlers: list[Any] = [CaseCsvHandler(options.work_dir / "validation.csv", names=from_engine("case"))]
    if rank == 0:
        handlers += [StatsHandler(iteration_log=False), BestWeights(network, options.work_dir / "best.pt")]
    return SupervisedEvaluator(
        device=device,
        val_data_loader=validation_loader(options, rank, world),
        network=network,
        postprocessing=Compose(
            [
                Activationsd("pred", sigmoid=True),
                AsDiscreted("pred", threshold=0.5),
                CopyItemsd(["image", "name"], names=["defective", "case"]),
            ]
        ),
        key_val_metric={"implant_dice": ImplantDice(masks)},
        additional_metrics={
            "border_dice": BorderDice(masks),
            "hd95_mm": SurfaceDistance95(masks),
            "error_percent": ReconstructionError(masks),
        },
        val_handlers=handlers,
    )


def load(options: argparse.Namespace, *keys: str) -> list:
    return [
        LoadImaged(keys, ensure_channel_first=True, dtype=np.float32),
        ToBinaryMaskd(keys),
        Orientationd(keys, axcodes="RAS", labels=None),
        ResampleToSpacingd(keys, options.spacing),
    ]


def training_loader(options: argparse.Namespace, rank: int, world: int) -> DataLoader:
    """Complete skulls; every epoch warps them and cuts other holes."""
    cases = skulls(options, first_seed=0, count=options.phantoms)
    steps = [
        *load(options, "label"),
        RandWarpMaskd("label", crop_end=True),
        CopyItemsd("label", names="image"),
        RandCranialDefectd("image", kinds=("bilateral", "parietotemporal", "random")),
        SelectItemsd(["image", "label"]),
    ]
    data = CacheDataset(cases, Compose(steps), progress=False)
    sampler = DistributedSampler(data, even_divisible=True, shuffle=True) if world > 1 else None
    return DataLoader(
        data, batch_size=1, shuffle=sampler is None, sampler=sampler, collate_fn=pad_list_data_collate
    )


def validation_loader(options: argparse.Namespace, rank: int, world: int) -> DataLoader:
    """Skulls of other seeds, each with fixed holes."""
    cases = defect_cases(skulls(options, first_seed=10_000, count=2), kinds=("parietotemporal", "random"))
    data = CacheDataset(
        cases, Compose([*load(options, "image", "label"), FixedCranialDefectd("image")]), progress=False
    )
    sampler = DistributedSampler(data, even_divisible=False, shuffle=False) if world > 1 else None
    return DataLoader(data, batch_size=1, sampler=sampler)


def skulls(options: argparse.Namespace, *, first_seed: int, count: int) -> list[dict]:
    """The user's masks for training, or phantoms."""
    if options.data is not None and first_seed == 0:
        return complete_skulls(options.data)
    folder = options.work_dir / "phantoms"
    return phantom_cases(folder, count=count, first_seed=first_seed, spacing=options.spacing)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work-dir", type=Path, default=Path("runs/example"))
    parser.add_argument("--data", type=Path, help="folder of complete skull masks or CTs; default: phantoms")
    parser.add_argument("--phantoms", type=int, default=16, help="how many phantoms to train on")
    parser.add_argument("--spacing", type=float, default=4.0, help="working grid, mm")
    parser.add_argument("--channels", type=int, nargs="+", default=[8, 16, 32, 48, 64])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--accumulate", type=int, default=2, help="cases for one step of the optimizer")
    parser.add_argument("--amp", action="store_true", help="mixed precision, on a GPU")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
