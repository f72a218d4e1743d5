def test_page_is_that_of_the_records(script):
    assert script("shapes", "scores", "--check") == ""
