"""How often the tokens of a vocabulary stand in a text."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from glassgpt.inspection.token_statistics import token_statistics


@given(st.lists(st.integers(0, 40), min_size=1, max_size=400))
def test_tokens_are_counted(ids):
    found = token_statistics(np.array(ids, np.uint16), 50, lambda token: "x" * token)
    counts = Counter(ids)
    assert (found["counted"], found["used"]) == (len(ids), len(counts))
    assert [times for _, times in found["frequent"]] == [times for _, times in counts.most_common(40)]
    assert found["long"][0] == ["x" * max(ids), counts[max(ids)]]
    assert found["ranks"][0] == [1, max(counts.values())]
    assert found["ranks"][-1] == [len(counts), min(counts.values())]
