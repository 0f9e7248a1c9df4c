from __future__ import annotations

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer

from handful.recognizer.ngrams import hashed, hashes, pieces, words


def test_numbers_are_those_of_scikit_learn() -> None:
    letters = np.array(list("abcdeéßİ日😀x_'-. \t"))
    random = np.random.default_rng(0)
    texts = ["".join(random.choice(letters, size=random.integers(0, 60))) for _ in range(200)]
    texts += ["", "?", "a", "Hello world, 12 straßen", "x" * 3001 + " yy"]
    for tokens, options in ((words, {"ngram_range": (1, 2), "token_pattern": r"(?u)\w+"}), (pieces, PIECES)):
        expected = HashingVectorizer(n_features=1024, **options).transform(texts).toarray()
        np.testing.assert_allclose(hashed(texts, tokens, 1024), expected, rtol=0, atol=1e-15)


PIECES = {"ngram_range": (3, 5), "analyzer": "char_wb"}


def test_known_hashes() -> None:
    """Of the algorithm's published test vectors, as signed numbers."""
    assert hashes(["", "test", "Hello, world!"]).tolist() == [0, 0xBA6BD213 - 2**32, 0xC0363E43 - 2**32]
    assert hashes([]).tolist() == []
