"""Cranial defects: only ever remove bone, of the vault, in one piece, the same in millimetres on any grid."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Flip, Orientation
from scipy import ndimage

from monai_sparse_refine.data import skull_phantom
from monai_sparse_refine.errors import InputError
from monai_sparse_refine.transforms import defect_shapes
from monai_sparse_refine.transforms.cranial_defect import (
    DEFECT_KINDS,
    RandCranialDefect,
    RandCranialDefectD,
    RandCranialDefectd,
    RandCranialDefectDict,
)

TOUCHING = np.ones((3, 3, 3))
VAULT_KINDS = [kind for kind in DEFECT_KINDS if kind != "anywhere"]


@pytest.fixture(scope="module")
def skull() -> MetaTensor:
    return skull_phantom(1, spacing=2.0)


def cut(kind: str | tuple[str, ...], seed: int, **options: object) -> RandCranialDefect:
    return RandCranialDefect(kind, **options).set_random_state(seed)


def removed(complete: torch.Tensor, defective: torch.Tensor) -> np.ndarray:
    before, after = np.asarray(complete)[0] != 0, np.asarray(defective)[0] != 0
    assert not (after & ~before).any(), "a defect only removes"
    return before & ~after


def world(mask: np.ndarray, volume: MetaTensor) -> np.ndarray:
    affine = volume.affine.numpy()
    return np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2.0 * (a & b).sum() / (a.sum() + b.sum())


def load(path: Path) -> MetaTensor:
    image = nibabel.load(path)
    mask = np.asarray(image.dataobj).astype(np.uint8)
    return MetaTensor(torch.from_numpy(mask)[None], affine=torch.from_numpy(image.affine))


@pytest.mark.parametrize("kind", VAULT_KINDS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_hole_is_one_piece_of_the_vault(skull: MetaTensor, kind: str, seed: int) -> None:
    transform = cut(kind, seed)
    implant = removed(skull, transform(skull))
    volume_ml = implant.sum() * 8.0 / 1000.0
    assert 5.0 < volume_ml < 120.0
    assert ndimage.label(implant, structure=TOUCHING)[1] == 1
    assert transform.kind == kind
    # All of it lies in the upper half of the head, around the middle that was reported.
    place = world(implant, skull)
    head = world(skull[0].numpy() > 0, skull)
    top = head[:, 2].max()
    assert place[:, 2].min() > top - 105.0
    near = np.linalg.norm(place - transform.centre_mm, axis=1)
    assert near.min() < 8.0 and near.max() < 2.2 * transform.size_mm + 15.0


def test_hole_goes_through_the_whole_wall(skull: MetaTensor) -> None:
    """Through the middle of the hole, a straight line from the cavity to the outside meets no bone."""
    transform = cut("parietotemporal", 4)
    defective = transform(skull)
    cavity = world(skull[0].numpy() > 0, skull).mean(axis=0)
    line = np.linspace(cavity, cavity + 1.25 * (np.array(transform.centre_mm) - cavity), 200)[100:]
    inverse = np.linalg.inv(skull.affine.numpy())
    index = np.rint(line @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    index = index[((index >= 0) & (index < skull.shape[1:])).all(axis=1)]
    assert skull[0].numpy()[tuple(index.T)].any()
    assert not defective[0].numpy()[tuple(index.T)].any()


@pytest.mark.parametrize("kind", DEFECT_KINDS)
def test_kind_lies_where_its_name_says(skull: MetaTensor, kind: str) -> None:
    head = world(skull[0].numpy() > 0, skull)
    middle_x = 0.5 * (head[:, 0].min() + head[:, 0].max())
    for seed in range(4):
        transform = cut(kind, seed)
        place = world(removed(skull, transform(skull)), skull)
        if kind == "bilateral":
            assert place[:, 0].min() < middle_x - 20 and place[:, 0].max() > middle_x + 20
        elif kind == "parietotemporal":
            assert abs(transform.centre_mm[0] - middle_x) > 40
        elif kind == "frontoorbital":
            assert transform.centre_mm[1] > np.quantile(head[:, 1], 0.7)


def test_a_hole_anywhere_also_takes_bone_below_the_vault(skull: MetaTensor) -> None:
    head = world(skull[0].numpy() > 0, skull)
    lowest_of_vault_holes = min(
        world(removed(skull, cut("random", seed)(skull)), skull)[:, 2].min() for seed in range(6)
    )
    holes = [removed(skull, cut("anywhere", seed)(skull)) for seed in range(12)]
    lowest = min(world(hole, skull)[:, 2].min() for hole in holes)
    assert head[:, 2].min() < lowest < lowest_of_vault_holes - 20
    assert all(ndimage.label(hole, structure=TOUCHING)[1] == 1 for hole in holes)


def test_a_cap_is_what_lies_beyond_a_plane(skull: MetaTensor) -> None:
    for seed in range(3):
        transform = cut("cap", seed, size_mm=(40.0, 50.0), border_roughness_mm=0.0)
        implant = removed(skull, transform(skull))
        vault = transform.defect.vault
        taken = vault.local(world(implant, skull))
        rest = vault.local(world((skull[0].numpy() != 0) & ~implant, skull))
        normal = vault.local(np.asarray(transform.centre_mm)[None])[0]
        rest = rest[np.linalg.norm(rest, axis=1) > 0.8 * vault.model_radius(rest)]
        # The two lie on either side of a plane that stands nearly across the line from the middle of the head.
        best = min(_overlap(taken, rest, normal, turn) for turn in _turns())
        assert best < 4.0, "voxels of 2 mm and loose chips"


def _turns() -> list[tuple[float, float]]:
    angles = np.deg2rad(np.arange(-24.0, 25.0, 2.0))
    return [(float(a), float(b)) for a in angles for b in angles]


def _overlap(taken: np.ndarray, rest: np.ndarray, normal: np.ndarray, turn: tuple[float, float]) -> float:
    """How far in mm the two reach past each other along the normal, turned by two angles."""
    normal = normal / np.linalg.norm(normal)
    one = np.cross(normal, (0.3, 0.9, 0.2))
    one /= np.linalg.norm(one)
    axis = normal + np.tan(turn[0]) * one + np.tan(turn[1]) * np.cross(normal, one)
    axis /= np.linalg.norm(axis)
    return float(np.quantile(rest @ axis, 0.999) - np.quantile(taken @ axis, 0.01))


def test_a_hole_anywhere_is_a_cluster_or_a_patch(skull: MetaTensor) -> None:
    outlines = set()
    for seed in range(12):
        transform = cut("anywhere", seed)
        transform(skull)
        assert transform.defect is not None
        outlines.add(transform.defect.outline.__qualname__.split(".")[0])
    assert outlines == {"_cluster", "_patch"}


def test_burr_holes_widen_a_patch_in_places() -> None:
    centre = np.array([0.0, 60.0, 50.0])
    directions = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    points = directions / np.linalg.norm(directions, axis=1, keepdims=True) * 78.0
    patch, reach = defect_shapes._patch(centre, 25.0, "burred", np.random.default_rng(3))
    burred, burred_reach = defect_shapes._burred(centre, 25.0, "burred", np.random.default_rng(3))
    inside, with_burrs = patch(points) < 0, burred(points) < 0
    assert not (inside & ~with_burrs).any() and 1.02 < with_burrs.sum() / inside.sum() < 2
    far = np.linalg.norm(points[with_burrs] - centre, axis=1).max()
    assert far <= burred_reach and reach <= burred_reach


def test_sizes_may_differ_by_kind(skull: MetaTensor) -> None:
    kinds = ("random", "cube")
    transform = RandCranialDefect(kinds, size_mm={"random": (15.0, 16.0)}).set_random_state(0)
    sizes: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(10):
        transform(skull)
        sizes[transform.kind].append(transform.size_mm)
    assert all(15 <= size <= 16 for size in sizes["random"]) and sizes["random"]
    assert all(22 <= size <= 42 for size in sizes["cube"]) and sizes["cube"]
    for bad in ({"random": (5.0, 1.0)}, {"nowhere": (1.0, 2.0)}, {"random": (1.0,)}):
        with pytest.raises(InputError, match="size_mm"):
            RandCranialDefect(kinds, size_mm=bad)


def test_no_loose_chips_are_left(skull: MetaTensor) -> None:
    before = ndimage.label(skull[0].numpy(), structure=TOUCHING)[1]
    for seed in range(8):
        defective = cut("random", seed, border_roughness_mm=3.0)(skull)
        assert ndimage.label(defective[0].numpy(), structure=TOUCHING)[1] <= before


def test_seed_decides(skull: MetaTensor) -> None:
    one, again, other = (cut(DEFECT_KINDS, seed)(skull) for seed in (5, 5, 6))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    transform = cut(DEFECT_KINDS, 5)
    first, second = transform(skull), transform(skull)
    assert torch.equal(first, one) and not torch.equal(second, one)
    assert torch.equal(transform(skull, randomize=False), second)


def test_keeps_type_dtype_and_metadata(skull: MetaTensor) -> None:
    for dtype in (torch.uint8, torch.float32, torch.bool, torch.int64):
        result = cut("cube", 1)(skull.to(dtype))
        assert isinstance(result, MetaTensor) and result.dtype == dtype
        assert torch.equal(result.affine, skull.affine)
    array = skull.numpy()
    result = cut("cube", 1, spacing=2.0)(array)
    assert isinstance(result, np.ndarray) and result.dtype == array.dtype
    tensor = cut("cube", 1, spacing=2.0)(skull.as_tensor())
    assert type(tensor) is torch.Tensor and np.array_equal(tensor.numpy(), result)
    assert (result != array).any() and skull.sum() == array.sum(), "the input itself stays whole"


@pytest.mark.parametrize("kind", ["frontoorbital", "parietotemporal", "cube"])
def test_same_hole_in_any_orientation(skull: MetaTensor, kind: str) -> None:
    """A flipped or transposed copy is the same head in the world, and gets the same hole."""
    expected = removed(skull, cut(kind, 2)(skull))
    flipped = Flip(spatial_axis=(0, 2))(skull)
    result = removed(flipped, cut(kind, 2)(flipped))[::-1, :, ::-1]
    assert dice(expected, result) > 0.93
    turned = Orientation(axcodes="PLI", labels=None)(skull)
    defective = cut(kind, 2)(turned)
    back = Orientation(axcodes="RAS", labels=None)(defective)
    assert dice(expected, removed(skull, back)) > 0.93


def test_same_hole_under_an_oblique_affine(skull: MetaTensor) -> None:
    """The head turned by 12 degrees about the vertical axis in the world keeps its size of hole."""
    angle = np.deg2rad(12.0)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    oblique = MetaTensor(skull.as_tensor(), affine=torch.from_numpy(turn @ skull.affine.numpy()))
    straight, turned = cut("parietotemporal", 3), cut("parietotemporal", 3)
    first, second = removed(skull, straight(skull)), removed(oblique, turned(oblique))
    assert second.sum() == pytest.approx(first.sum(), rel=0.25)
    expected = turn[:3, :3] @ straight.centre_mm
    assert np.linalg.norm(expected - turned.centre_mm) < 25.0


def test_same_hole_at_another_spacing(skull: MetaTensor) -> None:
    flat = skull_phantom(1, spacing=(1.5, 1.5, 2.0))
    coarse, fine = cut("bilateral", 7), cut("bilateral", 7)
    even_ml = removed(skull, coarse(skull)).sum() * 8.0
    flat_ml = removed(flat, fine(flat)).sum() * 4.5
    assert flat_ml == pytest.approx(even_ml, rel=0.08)
    assert np.linalg.norm(np.subtract(coarse.centre_mm, fine.centre_mm)) < 4.0


def test_size_is_obeyed(skull: MetaTensor) -> None:
    small, large = (cut("parietotemporal", 1, size_mm=size) for size in ((18.0, 20.0), (45.0, 47.0)))
    sizes = [removed(skull, transform(skull)).sum() for transform in (small, large)]
    assert 18.0 <= small.size_mm <= 20.0 and 45.0 <= large.size_mm <= 47.0
    assert sizes[1] > 3 * sizes[0]


def test_probability_zero_leaves_it_whole(skull: MetaTensor) -> None:
    transform = cut(DEFECT_KINDS, 0, prob=0.0)
    assert transform(skull) is skull
    assert transform.kind is None and transform.centre_mm is None


def test_dictionary_cuts_one_hole_for_all_keys(skull: MetaTensor) -> None:
    fine = skull_phantom(1, spacing=1.5)
    transform = RandCranialDefectd(
        ("skull", "fine"), kinds="parietotemporal", implant_key="implant", kind_key="kind"
    ).set_random_state(3)
    data = {"skull": skull, "fine": fine, "name": "a"}
    result = transform(data)
    assert result["kind"] == "parietotemporal" and result["name"] == "a" and data["skull"] is skull
    implant = result["implant"]
    assert isinstance(implant, MetaTensor) and implant.dtype == skull.dtype
    assert torch.equal(implant.affine, skull.affine)
    assert torch.equal(result["skull"].as_tensor() + implant.as_tensor(), skull.as_tensor())
    ml = [removed(v, result[key]).sum() * e**3 for key, v, e in (("skull", skull, 2.0), ("fine", fine, 1.5))]
    assert ml[0] == pytest.approx(ml[1], rel=0.1)
    assert RandCranialDefectD is RandCranialDefectd is RandCranialDefectDict


def test_dictionary_without_a_draw(skull: MetaTensor) -> None:
    transform = RandCranialDefectd("skull", prob=0.0, implant_key="implant", kind_key="kind")
    result = Compose([transform]).set_random_state(0)({"skull": skull})
    assert result["kind"] == "none" and not result["implant"].any()
    assert torch.equal(result["skull"], skull)


def test_dictionary_missing_key(skull: MetaTensor) -> None:
    with pytest.raises(KeyError):
        RandCranialDefectd(("skull", "other"))({"skull": skull})
    result = RandCranialDefectd(("other", "skull"), allow_missing_keys=True)({"skull": skull})
    assert not torch.equal(result["skull"], skull)


def test_cropped_vertex_still_gets_a_hole(skull: MetaTensor) -> None:
    top = int(np.argwhere(skull[0].numpy())[:, 2].max())
    cropped = skull[..., : top - 12]  # 24 mm are missing
    implant = removed(cropped, cut(("parietotemporal", "frontoorbital"), 1)(cropped))
    assert implant.sum() * 8.0 / 1000.0 > 2.0


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (torch.zeros(1, 8, 8, 8), "no foreground"),
        (torch.full((1, 8, 8, 8), 3), "binary"),
        (torch.full((1, 8, 8, 8), 0.5), "binary"),
        (torch.full((1, 8, 8, 8), float("nan")), "binary"),
        (torch.ones(8, 8, 8), "shape"),
        (torch.ones(2, 8, 8, 8), "shape"),
        (torch.ones(1, 8, 8, 8), "no cranial vault"),
    ],
)
def test_bad_input(volume: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RandCranialDefect(spacing=1.0)(volume)


def test_spacing_is_not_guessed(skull: MetaTensor) -> None:
    with pytest.raises(InputError, match="spacing"):
        RandCranialDefect()(skull.as_tensor())


@pytest.mark.parametrize(
    "arguments",
    [{"kinds": ("hole",)}, {"kinds": ()}, {"size_mm": (30, 20)}, {"size_mm": (0, 20)}, {"max_tries": 0}],
)
def test_bad_arguments(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(arguments))):
        RandCranialDefect(**arguments)


def test_an_impossible_size_is_an_error_or_leaves_it_intact(skull: MetaTensor) -> None:
    with pytest.raises(InputError, match="no defect"):
        RandCranialDefect("cube", min_implant_ml=10_000.0, max_tries=1)(skull)
    assert RandCranialDefect("cube", min_implant_ml=10_000.0, max_tries=1, allow_intact=True)(skull) is skull


@pytest.mark.parametrize("kind", DEFECT_KINDS)
def test_real_cranium(shared_data: Path, kind: str) -> None:
    complete = load(shared_data / "skull_masks" / "invesalius_cranium_skull.nii.gz")
    transform = cut(kind, 0)
    implant = removed(complete, transform(complete))
    assert 8.0 < implant.sum() * float(complete.pixdim.prod()) / 1000.0 < 110.0
    assert ndimage.label(implant, structure=TOUCHING)[1] == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["philips_skullphantom_bone1mm", "philips_skullphantom_tiltA_2.5mm"])
def test_real_scans_at_full_resolution(shared_data: Path, name: str) -> None:
    complete = load(shared_data / "skull_masks" / f"{name}_skull.nii.gz")
    implant = removed(complete, cut(VAULT_KINDS, 0)(complete))
    assert 4.0 < implant.sum() * float(complete.pixdim.prod()) / 1000.0 < 110.0


def test_radiotherapy_heads(shared_data: Path) -> None:
    """Whole heads among coarse masks that reach down to the chest."""
    stored = np.load(shared_data / "openkbp_heads" / "bone300_packbits_dev.npz", allow_pickle=True)
    cut_heads = 0
    for i in (2, 3, 5, 6, 9, 10, 12, 13):
        mask = np.unpackbits(stored["masks"][i]).reshape(1, 128, 128, 128)
        y, x, z = (float(v) for v in stored["vox"][i])
        # Axes run to posterior, left and inferior.
        affine = torch.tensor(
            [[0, -x, 0, 0], [-y, 0, 0, 0], [0, 0, -z, 0], [0, 0, 0, 1]], dtype=torch.float64
        )
        complete = MetaTensor(torch.from_numpy(mask), affine=affine)
        try:
            implant = removed(complete, cut(DEFECT_KINDS, i, min_implant_ml=4.0)(complete))
        except InputError:
            continue
        cut_heads += 1
        place = np.argwhere(implant)[:, 2]
        assert place.mean() < np.argwhere(mask[0])[:, 2].mean(), "towards the head, not the chest"
    assert cut_heads >= 4
