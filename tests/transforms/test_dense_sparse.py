import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from monai_sparse_refine.engine import get_engine
from monai_sparse_refine.transforms.dense_sparse import (
    DenseToSparse,
    DenseToSparsed,
    SparseToDense,
    SparseToDensed,
    sparse_collate,
)


def _mask() -> torch.Tensor:
    mask = torch.zeros(1, 4, 5, 6)
    mask[0, 1, 2, 3] = mask[0, 3, 4, 5] = 1
    return mask


def test_rows_are_batch_and_voxel(engine):
    name = engine.__name__.rsplit(".", 1)[-1]
    sparse = DenseToSparse(engine=name)(_mask())
    assert isinstance(sparse, engine.SparseTensor)
    assert sorted(sparse.C.tolist()) == [[0, 1, 2, 3], [0, 3, 4, 5]]
    assert sparse.F.tolist() == [[1.0], [1.0]]


@given(st.integers(0, 2**20), st.integers(1, 3))
def test_round_trip(seed, channels):
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.rand(channels, 3, 4, 5, generator=generator) > 0.6).float()
    if not mask.any():
        mask[0, 0, 0, 0] = 1
    dense = SparseToDense(shape=(3, 4, 5))(DenseToSparse(engine="native")(mask))
    assert torch.equal(dense, mask)


def test_reference_gives_shape_and_metadata():
    affine = torch.diag(torch.tensor([0.5, 0.5, 2.0, 1.0]))
    data = {"image": MetaTensor(_mask(), affine=affine), "sparse": MetaTensor(_mask(), affine=affine)}
    data = DenseToSparsed("sparse", engine="native")(data)
    out = SparseToDensed("sparse", reference_key="image")(data)["sparse"]
    assert torch.equal(out.as_tensor(), _mask())
    torch.testing.assert_close(out.affine, data["image"].affine)


def test_collate_joins_items_under_their_batch_index(engine):
    name = engine.__name__.rsplit(".", 1)[-1]
    convert = DenseToSparse(engine=name)
    other = torch.zeros(1, 4, 5, 6)
    other[0, 0, 0, 0] = 2
    items = [{"x": convert(mask), "image": mask, "id": i} for i, mask in enumerate((_mask(), other))]
    batch = sparse_collate(items, engine=name)
    assert sorted(batch["x"].C.tolist()) == [[0, 1, 2, 3], [0, 3, 4, 5], [1, 0, 0, 0]]
    assert batch["x"].F[batch["x"].C[:, 0] == 1].tolist() == [[2.0]]
    assert batch["image"].shape == (2, 1, 4, 5, 6)
    assert batch["id"].tolist() == [0, 1]


def test_errors_name_the_problem():
    with pytest.raises(ValueError, match="without foreground"):
        DenseToSparse(engine="native")(torch.zeros(1, 2, 2, 2))
    with pytest.raises(ValueError, match="spatial"):
        DenseToSparse(engine="native")(torch.ones(3))
    sparse = DenseToSparse(engine="native")(_mask())
    with pytest.raises(ValueError, match="shape"):
        SparseToDense()(sparse)
    with pytest.raises(ValueError, match="do not fit"):
        SparseToDense(shape=(2, 2, 2))(sparse)
    me = get_engine("native")
    two = me.SparseTensor(torch.ones(2, 1), coordinates=torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0]]).int())
    with pytest.raises(ValueError, match="one item"):
        SparseToDense(shape=(2, 2, 2))(two)
    with pytest.raises(ValueError, match="empty batch"):
        sparse_collate([])
    with pytest.raises(ValueError, match="same keys"):
        sparse_collate([{"a": 1}, {"b": 1}])
