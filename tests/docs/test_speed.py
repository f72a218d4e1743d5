from collections.abc import Callable


def test_the_page_is_what_the_records_say(script: Callable[..., str]) -> None:
    assert script("speed", "--check") == ""
