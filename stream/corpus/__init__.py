"""``facestage corpus``: every sequence of a corpus, then the paper's evaluation (§4)."""
