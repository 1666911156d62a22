"""Data sets as they lie on disk: labelled faces, and corpora of sequences.

Training reads the first, the evaluation of a corpus the second; both know CK+.
"""
