"""What the machine says about itself: battery, mains, temperature, energy; and fakes that run on the plant.

What a machine does not say is `None`, never 0, and the reason is kept beside it. Reading never raises.
"""

from tnn_edge.device.battery_energy import battery_meter
from tnn_edge.device.counted_energy import CountedMeter
from tnn_edge.device.energy import EnergyMeter
from tnn_edge.device.energy_choice import NetworkDevice, best_meter
from tnn_edge.device.modelled_energy import ModelledMeter
from tnn_edge.device.nvml_energy import nvml_meter
from tnn_edge.device.opening import Backend, FirstKnown, open_power
from tnn_edge.device.power import PowerReading, PowerSource, Unknown
from tnn_edge.device.psutil_power import PsutilPower
from tnn_edge.device.rail_energy import rail_meter
from tnn_edge.device.rapl_energy import rapl_meter
from tnn_edge.device.sampled_energy import SampledMeter
from tnn_edge.device.simulated import SimulatedDevice, SimulatedPower, SimulatedThermometer
from tnn_edge.device.sysfs_power import SysfsPower
from tnn_edge.device.temperature import SysfsThermometer, Thermometer

__all__ = [
    "Backend",
    "CountedMeter",
    "EnergyMeter",
    "FirstKnown",
    "ModelledMeter",
    "NetworkDevice",
    "PowerReading",
    "PowerSource",
    "PsutilPower",
    "SampledMeter",
    "SimulatedDevice",
    "SimulatedPower",
    "SimulatedThermometer",
    "SysfsPower",
    "SysfsThermometer",
    "Thermometer",
    "Unknown",
    "battery_meter",
    "best_meter",
    "nvml_meter",
    "open_power",
    "rail_meter",
    "rapl_meter",
]
