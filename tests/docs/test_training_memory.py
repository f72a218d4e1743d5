from collections.abc import Callable


def test_the_page_is_what_is_counted(script: Callable[..., str]) -> None:
    assert script("training_memory", "--check") == ""
