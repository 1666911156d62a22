"""Faces for training the AU network: rendered from a morphable model, labelled by construction.

Repo only, not part of the wheel. ``python -m training --help`` lists the commands; README.md says
what is made and from what.
"""
