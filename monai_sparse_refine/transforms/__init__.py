"""Transforms: dense and sparse, working grid, super-resolution, mirror image, defects, implants, files."""

from monai_sparse_refine.transforms.binary_mask import (
    ToBinaryMask,
    ToBinaryMaskD,
    ToBinaryMaskd,
    ToBinaryMaskDict,
)
from monai_sparse_refine.transforms.close_gaps import CloseGaps, CloseGapsD, CloseGapsd, CloseGapsDict
from monai_sparse_refine.transforms.coarse_scan import (
    RandCoarseScan,
    RandCoarseScanD,
    RandCoarseScand,
    RandCoarseScanDict,
)
from monai_sparse_refine.transforms.coarsen import (
    CoarsenMask,
    CoarsenMaskD,
    CoarsenMaskd,
    CoarsenMaskDict,
    check_whole_factor,
)
from monai_sparse_refine.transforms.components import (
    KeepMajorComponents,
    KeepMajorComponentsD,
    KeepMajorComponentsd,
    KeepMajorComponentsDict,
)
from monai_sparse_refine.transforms.cranial_defect import (
    DEFECT_KINDS,
    RandCranialDefect,
    RandCranialDefectD,
    RandCranialDefectd,
    RandCranialDefectDict,
)
from monai_sparse_refine.transforms.crop_head import CropHeadD, CropHeadd, CropHeadDict
from monai_sparse_refine.transforms.crop_hole import RandCropHoleD, RandCropHoled, RandCropHoleDict
from monai_sparse_refine.transforms.dense_prediction import (
    DenseProbabilitiesD,
    DenseProbabilitiesd,
    DenseProbabilitiesDict,
)
from monai_sparse_refine.transforms.dense_sparse import (
    DenseToSparse,
    DenseToSparseD,
    DenseToSparsed,
    DenseToSparseDict,
    SparseToDense,
    SparseToDenseD,
    SparseToDensed,
    SparseToDenseDict,
    sparse_collate,
)
from monai_sparse_refine.transforms.fixed_defect import (
    FixedCranialDefectD,
    FixedCranialDefectd,
    FixedCranialDefectDict,
    cases_with_room,
)
from monai_sparse_refine.transforms.gate import RefineGate
from monai_sparse_refine.transforms.grid_average import (
    AverageGrids,
    AverageGridsD,
    AverageGridsd,
    AverageGridsDict,
)
from monai_sparse_refine.transforms.implant import (
    CompleteMask,
    CompleteMaskD,
    CompleteMaskd,
    CompleteMaskDict,
    ExtractImplant,
    ExtractImplantD,
    ExtractImplantd,
    ExtractImplantDict,
)
from monai_sparse_refine.transforms.label_presets import LABEL_PRESETS
from monai_sparse_refine.transforms.likely_gaps import (
    CloseLikelyGaps,
    CloseLikelyGapsD,
    CloseLikelyGapsd,
    CloseLikelyGapsDict,
)
from monai_sparse_refine.transforms.mask_corruption import (
    CORRUPTION_KINDS,
    RandMaskCorruption,
    RandMaskCorruptionD,
    RandMaskCorruptiond,
    RandMaskCorruptionDict,
)
from monai_sparse_refine.transforms.mirror import (
    MirrorImage,
    MirrorImageD,
    MirrorImaged,
    MirrorImageDict,
    midsagittal_plane,
    mirror_image,
)
from monai_sparse_refine.transforms.mirror_average import (
    AverageMirror,
    AverageMirrorD,
    AverageMirrord,
    AverageMirrorDict,
)
from monai_sparse_refine.transforms.mirror_registration import register_mirror
from monai_sparse_refine.transforms.multi_resolution import (
    MakeMultiResolution,
    MakeMultiResolutionD,
    MakeMultiResolutiond,
    MakeMultiResolutionDict,
)
from monai_sparse_refine.transforms.organ_features import (
    OrganFeatures,
    OrganFeaturesD,
    OrganFeaturesd,
    OrganFeaturesDict,
)
from monai_sparse_refine.transforms.organ_labels import OrganLabelsD, OrganLabelsd, OrganLabelsDict
from monai_sparse_refine.transforms.organ_sample import (
    RandOrganSampleD,
    RandOrganSampled,
    RandOrganSampleDict,
)
from monai_sparse_refine.transforms.probability_threshold import dice_threshold
from monai_sparse_refine.transforms.reach_rim import ReachRim, ReachRimD, ReachRimd, ReachRimDict
from monai_sparse_refine.transforms.refine import (
    SparseRefine,
    SparseRefineD,
    SparseRefined,
    SparseRefineDict,
)
from monai_sparse_refine.transforms.refine_bundle import find_bundle, list_bundles, load_recipe
from monai_sparse_refine.transforms.refine_recipe import RefineRecipe
from monai_sparse_refine.transforms.resample import (
    ResampleToSpacing,
    ResampleToSpacingD,
    ResampleToSpacingd,
    ResampleToSpacingDict,
)
from monai_sparse_refine.transforms.save import SaveMaskD, SaveMaskd, SaveMaskDict
from monai_sparse_refine.transforms.super_resolution import (
    SuperResolve,
    SuperResolveD,
    SuperResolved,
    SuperResolveDict,
    super_resolve,
)
from monai_sparse_refine.transforms.target_grids import TargetGrid, average_onto, target_grid
from monai_sparse_refine.transforms.vault_average import (
    AverageVault,
    AverageVaultD,
    AverageVaultd,
    AverageVaultDict,
)
from monai_sparse_refine.transforms.vault_surface import (
    InterpolateVault,
    InterpolateVaultD,
    InterpolateVaultd,
    InterpolateVaultDict,
    interpolate_vault,
)
from monai_sparse_refine.transforms.warp import RandWarpMask, RandWarpMaskD, RandWarpMaskd, RandWarpMaskDict

__all__ = [
    "CORRUPTION_KINDS",
    "DEFECT_KINDS",
    "LABEL_PRESETS",
    "AverageGrids",
    "AverageGridsD",
    "AverageGridsDict",
    "AverageGridsd",
    "AverageMirror",
    "AverageMirrorD",
    "AverageMirrorDict",
    "AverageMirrord",
    "AverageVault",
    "AverageVaultD",
    "AverageVaultDict",
    "AverageVaultd",
    "CloseGaps",
    "CloseGapsD",
    "CloseGapsDict",
    "CloseGapsd",
    "CloseLikelyGaps",
    "CloseLikelyGapsD",
    "CloseLikelyGapsDict",
    "CloseLikelyGapsd",
    "CoarsenMask",
    "CoarsenMaskD",
    "CoarsenMaskDict",
    "CoarsenMaskd",
    "CompleteMask",
    "CompleteMaskD",
    "CompleteMaskDict",
    "CompleteMaskd",
    "CropHeadD",
    "CropHeadDict",
    "CropHeadd",
    "DenseProbabilitiesD",
    "DenseProbabilitiesDict",
    "DenseProbabilitiesd",
    "DenseToSparse",
    "DenseToSparseD",
    "DenseToSparseDict",
    "DenseToSparsed",
    "ExtractImplant",
    "ExtractImplantD",
    "ExtractImplantDict",
    "ExtractImplantd",
    "FixedCranialDefectD",
    "FixedCranialDefectDict",
    "FixedCranialDefectd",
    "InterpolateVault",
    "InterpolateVaultD",
    "InterpolateVaultDict",
    "InterpolateVaultd",
    "KeepMajorComponents",
    "KeepMajorComponentsD",
    "KeepMajorComponentsDict",
    "KeepMajorComponentsd",
    "MakeMultiResolution",
    "MakeMultiResolutionD",
    "MakeMultiResolutionDict",
    "MakeMultiResolutiond",
    "MirrorImage",
    "MirrorImageD",
    "MirrorImageDict",
    "MirrorImaged",
    "OrganFeatures",
    "OrganFeaturesD",
    "OrganFeaturesDict",
    "OrganFeaturesd",
    "OrganLabelsD",
    "OrganLabelsDict",
    "OrganLabelsd",
    "RandCoarseScan",
    "RandCoarseScanD",
    "RandCoarseScanDict",
    "RandCoarseScand",
    "RandCranialDefect",
    "RandCranialDefectD",
    "RandCranialDefectDict",
    "RandCranialDefectd",
    "RandCropHoleD",
    "RandCropHoleDict",
    "RandCropHoled",
    "RandMaskCorruption",
    "RandMaskCorruptionD",
    "RandMaskCorruptionDict",
    "RandMaskCorruptiond",
    "RandOrganSampleD",
    "RandOrganSampleDict",
    "RandOrganSampled",
    "RandWarpMask",
    "RandWarpMaskD",
    "RandWarpMaskDict",
    "RandWarpMaskd",
    "ReachRim",
    "ReachRimD",
    "ReachRimDict",
    "ReachRimd",
    "RefineGate",
    "RefineRecipe",
    "ResampleToSpacing",
    "ResampleToSpacingD",
    "ResampleToSpacingDict",
    "ResampleToSpacingd",
    "SaveMaskD",
    "SaveMaskDict",
    "SaveMaskd",
    "SparseRefine",
    "SparseRefineD",
    "SparseRefineDict",
    "SparseRefined",
    "SparseToDense",
    "SparseToDenseD",
    "SparseToDenseDict",
    "SparseToDensed",
    "SuperResolve",
    "SuperResolveD",
    "SuperResolveDict",
    "SuperResolved",
    "TargetGrid",
    "ToBinaryMask",
    "ToBinaryMaskD",
    "ToBinaryMaskDict",
    "ToBinaryMaskd",
    "average_onto",
    "cases_with_room",
    "check_whole_factor",
    "dice_threshold",
    "find_bundle",
    "interpolate_vault",
    "list_bundles",
    "load_recipe",
    "midsagittal_plane",
    "mirror_image",
    "register_mirror",
    "sparse_collate",
    "super_resolve",
    "target_grid",
]
