import pytest

from monai_sparse_refine.errors import InputError, or_exit


def _half(value: int, *, allow_odd: bool = False) -> int:
    if value % 2 and not allow_odd:
        raise InputError(f"value is {value}; expected an even number")
    return value // 2


def test_result_passes_through():
    assert or_exit(_half, 4) == 2
    assert or_exit(_half, 5, allow_odd=True) == 2


def test_input_errors_become_one_line_and_exit_code_1():
    with pytest.raises(SystemExit) as caught:
        or_exit(_half, 5)
    assert caught.value.code == "error: value is 5; expected an even number"
    assert caught.value.__cause__ is None


def test_other_errors_stay_what_they_are():
    with pytest.raises(TypeError):
        or_exit(_half, None)
