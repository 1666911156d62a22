"""Scores: one number from the intensities of several AUs, with what is known of it.

``formula`` reads expressions, ``definition`` names a score (PSPI among them), ``tracker`` follows
the scores of one face through time, ``notices`` says when one is high for long.
"""
