"""The I/O shell of facestage: sources, pipeline, server and page, files, command line."""

import os

MOST_PIXELS = 1 << 26
"""Pixels of the largest image that is decoded, 8192 × 8192: a file of 400 kB can claim six times
as many, and take 2.3 GB. OpenCV looks at the header before it decodes; it reads the bound when it
is loaded, so it stands here, before any module that imports it."""

PIXEL_LIMIT = "OPENCV_IO_MAX_IMAGE_PIXELS"
"""Environment variable of OpenCV; what the user has set stays in force."""
os.environ.setdefault(PIXEL_LIMIT, str(MOST_PIXELS))
