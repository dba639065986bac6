import time

from glassgpt.training.probe import bf16_pays


def test_whether_bf16_pays_is_answered_in_well_under_a_second_and_twice_alike() -> None:
    before = time.perf_counter()
    answers = {bf16_pays() for _ in range(2)}
    assert len(answers) == 1
    assert time.perf_counter() - before < 2
