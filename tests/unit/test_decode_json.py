import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import json_values
from transforms.logic.decode_json import decode_object


@given(st.dictionaries(st.text(), json_values))
def test_an_object_is_decoded_as_python_does_it(value: dict[str, Any]) -> None:
    assert decode_object(json.dumps(value)) == value


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 5000, "-" + "9" * 5000])
def test_a_number_that_is_too_large_is_its_own_text(number: str) -> None:
    assert decode_object(f'{{"a":{number},"b":[1,1.5]}}') == {"a": number, "b": [1, 1.5]}
