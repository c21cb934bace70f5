"""What the machine says about itself: battery, mains, temperature; and fakes of all three that run on the plant.

What a machine does not say is `None`, never 0, and the reason is kept beside it. Reading never raises.
"""

from tnn_edge.device.opening import Backend, FirstKnown, open_power
from tnn_edge.device.power import PowerReading, PowerSource, Unknown
from tnn_edge.device.psutil_power import PsutilPower
from tnn_edge.device.simulated import SimulatedDevice, SimulatedPower, SimulatedThermometer
from tnn_edge.device.sysfs_power import SysfsPower
from tnn_edge.device.temperature import SysfsThermometer, Thermometer

__all__ = [
    "Backend",
    "FirstKnown",
    "PowerReading",
    "PowerSource",
    "PsutilPower",
    "SimulatedDevice",
    "SimulatedPower",
    "SimulatedThermometer",
    "SysfsPower",
    "SysfsThermometer",
    "Thermometer",
    "Unknown",
    "open_power",
]
