"""Networks: the sparse generative U-net, its dense face for MONAI, and its dense twin."""

from monai_sparse_refine.networks.dense_twin import DenseTwin
from monai_sparse_refine.networks.mask_refiner import BACKGROUND_LOGIT, MaskRefiner, SparsePrediction
from monai_sparse_refine.networks.sparse_unet import CHANNEL_PRESETS, LevelPrediction, SparseGenerativeUNet

__all__ = [
    "BACKGROUND_LOGIT",
    "CHANNEL_PRESETS",
    "DenseTwin",
    "LevelPrediction",
    "MaskRefiner",
    "SparseGenerativeUNet",
    "SparsePrediction",
]
