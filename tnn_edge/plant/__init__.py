"""The physical world around a device: battery, panel, load, temperature, light, image sensor. All of it is modelled.

Powers in W, energies in Wh, temperatures in degrees C, illuminance in lux. What has a state takes n devices at once,
element by element: a device's result does not hang on its neighbours.
"""

from tnn_edge.plant.battery import Battery, BatteryState, BatteryStep
from tnn_edge.plant.clouds import Clouds
from tnn_edge.plant.converter import Converter
from tnn_edge.plant.load import BoardLoad
from tnn_edge.plant.panel import Panel
from tnn_edge.plant.powered_board import BoardState, PoweredBoard
from tnn_edge.plant.sensor import Exposure, ImageSensor
from tnn_edge.plant.srgb import to_linear, to_srgb
from tnn_edge.plant.sun import LUMENS_PER_WATT, Site, illuminance_lux
from tnn_edge.plant.thermal import ThermalNode, ThermalThrottle
from tnn_edge.plant.weather import Weather, WeatherTrace

__all__ = [
    "LUMENS_PER_WATT",
    "Battery",
    "BatteryState",
    "BatteryStep",
    "BoardLoad",
    "BoardState",
    "Clouds",
    "Converter",
    "Exposure",
    "ImageSensor",
    "Panel",
    "PoweredBoard",
    "Site",
    "ThermalNode",
    "ThermalThrottle",
    "Weather",
    "WeatherTrace",
    "illuminance_lux",
    "to_linear",
    "to_srgb",
]
