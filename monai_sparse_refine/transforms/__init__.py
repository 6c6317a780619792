"""Transforms: dense and sparse, working grid, mirror image, defects, implants, files."""

from monai_sparse_refine.transforms.binary_mask import (
    ToBinaryMask,
    ToBinaryMaskd,
    ToBinaryMaskD,
    ToBinaryMaskDict,
)
from monai_sparse_refine.transforms.cranial_defect import (
    DEFECT_KINDS,
    RandCranialDefect,
    RandCranialDefectd,
    RandCranialDefectD,
    RandCranialDefectDict,
)
from monai_sparse_refine.transforms.dense_sparse import (
    DenseToSparse,
    DenseToSparsed,
    DenseToSparseD,
    DenseToSparseDict,
    SparseToDense,
    SparseToDensed,
    SparseToDenseD,
    SparseToDenseDict,
    sparse_collate,
)
from monai_sparse_refine.transforms.fixed_defect import (
    FixedCranialDefectd,
    FixedCranialDefectD,
    FixedCranialDefectDict,
)
from monai_sparse_refine.transforms.implant import (
    CompleteMask,
    CompleteMaskd,
    CompleteMaskD,
    CompleteMaskDict,
    ExtractImplant,
    ExtractImplantd,
    ExtractImplantD,
    ExtractImplantDict,
)
from monai_sparse_refine.transforms.mirror import (
    MirrorImage,
    MirrorImaged,
    MirrorImageD,
    MirrorImageDict,
    midsagittal_plane,
    mirror_image,
)
from monai_sparse_refine.transforms.resample import (
    ResampleToSpacing,
    ResampleToSpacingd,
    ResampleToSpacingD,
    ResampleToSpacingDict,
)
from monai_sparse_refine.transforms.save import SaveMaskd, SaveMaskD, SaveMaskDict
from monai_sparse_refine.transforms.warp import RandWarpMask, RandWarpMaskd, RandWarpMaskD, RandWarpMaskDict

__all__ = [
    "DEFECT_KINDS",
    "CompleteMask",
    "CompleteMaskD",
    "CompleteMaskDict",
    "CompleteMaskd",
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
    "MirrorImage",
    "MirrorImageD",
    "MirrorImageDict",
    "MirrorImaged",
    "RandCranialDefect",
    "RandCranialDefectD",
    "RandCranialDefectDict",
    "RandCranialDefectd",
    "RandWarpMask",
    "RandWarpMaskD",
    "RandWarpMaskDict",
    "RandWarpMaskd",
    "ResampleToSpacing",
    "ResampleToSpacingD",
    "ResampleToSpacingDict",
    "ResampleToSpacingd",
    "SaveMaskD",
    "SaveMaskDict",
    "SaveMaskd",
    "SparseToDense",
    "SparseToDenseD",
    "SparseToDenseDict",
    "SparseToDensed",
    "ToBinaryMask",
    "ToBinaryMaskD",
    "ToBinaryMaskDict",
    "ToBinaryMaskd",
    "midsagittal_plane",
    "mirror_image",
    "sparse_collate",
]
