"""OpenCV kept silent: it reads cameras and images, and writes videos."""

from __future__ import annotations

import functools
import os

import cv2

__all__ = ["quiet_logs"]


@functools.cache
def quiet_logs() -> None:
    """Keep OpenCV and its FFmpeg from writing to stderr, once per process.

    Whatever they complain about ends in a :class:`~facestage.core.errors.SourceError` or a log
    record of ours. ``OPENCV_LOG_LEVEL`` and ``OPENCV_FFMPEG_LOGLEVEL``, where the user has set
    them, stay in force. FFmpeg's level is read at its first use only.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_FATAL)
