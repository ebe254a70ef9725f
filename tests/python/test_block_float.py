import numpy as np
import pytest
from block_float_model import MAGNITUDE_BITS, decode, encode, inputs, run_program


@pytest.mark.parametrize("format_name", MAGNITUDE_BITS)
@pytest.mark.parametrize("name, values", [pytest.param(*case, id=case[0]) for case in inputs()])
def test_equals_the_numpy_model_bit_for_bit(build, tmp_path, format_name, name, values):
    bits = MAGNITUDE_BITS[format_name]
    exponents, codes, rounded = run_program(build / "tests/core/block_float_file", format_name, values, tmp_path)
    expected_exponents, expected_codes = encode(values, bits)
    np.testing.assert_array_equal(exponents, expected_exponents)
    np.testing.assert_array_equal(codes, expected_codes)
    np.testing.assert_array_equal(rounded, decode(expected_exponents, expected_codes, bits))
