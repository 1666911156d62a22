"""Explained facial Action Units, live: which are active, why, and when the explanation changes.

``facestage.core`` holds the algorithms, ``facestage.stream`` what reads cameras and files and
serves the page. Research software, not a medical device.
"""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    # Reading the version of an installed package takes longer than all else that is imported here.
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("facestage")
