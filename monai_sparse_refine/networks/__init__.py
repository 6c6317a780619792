"""Networks: the sparse generative U-net, its dense face for MONAI, its dense twin, and super-resolution."""

from monai_sparse_refine.networks.dense_super_resolver import DenseSuperResolver
from monai_sparse_refine.networks.dense_twin import DenseTwin
from monai_sparse_refine.networks.flip_average import flip_average
from monai_sparse_refine.networks.mask_refiner import BACKGROUND_LOGIT, MaskRefiner, SparsePrediction
from monai_sparse_refine.networks.sparse_unet import CHANNEL_PRESETS, LevelPrediction, SparseGenerativeUNet
from monai_sparse_refine.networks.super_resolver import MaskSuperResolver

__all__ = [
    "BACKGROUND_LOGIT",
    "CHANNEL_PRESETS",
    "DenseSuperResolver",
    "DenseTwin",
    "LevelPrediction",
    "MaskRefiner",
    "MaskSuperResolver",
    "SparseGenerativeUNet",
    "SparsePrediction",
    "flip_average",
]
