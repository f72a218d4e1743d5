"""Tables, a page and figures made from run records and published results."""
