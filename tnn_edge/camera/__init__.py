"""From a picture to an answer: sources of frames, preprocessing, the loop that runs the engine, and its accounting."""

from tnn_edge.camera.accounting import Accounting
from tnn_edge.camera.dial import Dial
from tnn_edge.camera.frame import Frame, FrameSource
from tnn_edge.camera.image_folder import ImageFolder
from tnn_edge.camera.pipeline import Record, run_frames
from tnn_edge.camera.preprocessing import Preprocessor, preprocess
from tnn_edge.camera.source import open_source
from tnn_edge.camera.sweep import Sweep, SweepPoint, sweep_throttle
from tnn_edge.camera.video import Camera, VideoFile

__all__ = [
    "Accounting",
    "Camera",
    "Dial",
    "Frame",
    "FrameSource",
    "ImageFolder",
    "Preprocessor",
    "Record",
    "Sweep",
    "SweepPoint",
    "VideoFile",
    "open_source",
    "preprocess",
    "run_frames",
    "sweep_throttle",
]
