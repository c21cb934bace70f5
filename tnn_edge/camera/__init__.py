"""From a picture to an answer: sources of frames, preprocessing, the loop that runs the engine, and its accounting."""

from tnn_edge.camera.accounting import Accounting
from tnn_edge.camera.choice import Choice, Chooser
from tnn_edge.camera.dial import Dial
from tnn_edge.camera.frame import Frame, FrameSource
from tnn_edge.camera.image_folder import ImageFolder
from tnn_edge.camera.latest import LatestFrames
from tnn_edge.camera.light_meter import LightMeter
from tnn_edge.camera.local_camera import Camera
from tnn_edge.camera.network_stream import NetworkStream
from tnn_edge.camera.pilot import Pilot
from tnn_edge.camera.pipeline import Record, run_frames
from tnn_edge.camera.preprocessing import Preprocessor, preprocess
from tnn_edge.camera.source import open_source
from tnn_edge.camera.sweep import Sweep, SweepPoint, sweep_throttle
from tnn_edge.camera.synthetic import SyntheticCamera
from tnn_edge.camera.video import VideoFile

__all__ = [
    "Accounting",
    "Camera",
    "Choice",
    "Chooser",
    "Dial",
    "Frame",
    "FrameSource",
    "ImageFolder",
    "LatestFrames",
    "LightMeter",
    "NetworkStream",
    "Pilot",
    "Preprocessor",
    "Record",
    "Sweep",
    "SweepPoint",
    "SyntheticCamera",
    "VideoFile",
    "open_source",
    "preprocess",
    "run_frames",
    "sweep_throttle",
]
