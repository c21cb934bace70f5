"""The battery beside an equivalent circuit: an open-circuit voltage, a resistance, and one more with a capacitor.

The circuit is a pack of 18650 cells, in the middle of what data sheets and published fits give for those:
3 Ah, 35 mOhm, and 15 mOhm with a time constant of 40 s. thevenin solves it; the battery model knows two efficiencies.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import thevenin

from tnn_edge.plant import Battery
from tnn_edge.sim.camera_device import reference_device
from tnn_edge.sim.climate import read_climate
from tnn_edge.sim.drawing import draw_traces

Floats = npt.NDArray[np.float64]

CELL_AH, CELL_OHM, SLOW_OHM, SLOW_S = 3.0, 0.035, 0.015, 40.0
SOC = np.array([0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
OCV_V = np.array([3.0, 3.3, 3.43, 3.55, 3.61, 3.65, 3.72, 3.82, 3.92, 4.02, 4.1, 4.18])
STEP_S = 900.0


def stored_share(soc: Floats) -> Floats:
    """Energy that is stored at a share of the charge, over that of a full pack."""
    fine = np.linspace(0.0, 1.0, 2001)
    volts = np.interp(fine, SOC, OCV_V)
    energy = np.concatenate([[0.0], np.cumsum((volts[1:] + volts[:-1]) / 2.0)])
    return np.asarray(np.interp(soc, fine, energy / energy[-1]))


def circuit(usable_wh: float, power_w: Floats, soc: float) -> Floats:
    """Share of the energy that is stored after each step, from a share of the charge; power out is positive."""
    n = usable_wh / (CELL_AH * float(np.trapezoid(OCV_V, SOC)))
    parameters = {
        "num_RC_pairs": 1,
        "soc0": soc,
        "capacity": n * CELL_AH,
        "ce": 1.0,
        "gamma": 0.0,
        "mass": n * 0.048,
        "isothermal": True,
        "Cp": 900.0,
        "T_inf": 298.0,
        "h_therm": 10.0,
        "A_therm": 1.0,
        "ocv": lambda soc: np.interp(soc, SOC, OCV_V),
        "M_hyst": lambda soc: 0.0,
        "R0": lambda soc, kelvin: CELL_OHM / n,
        "R1": lambda soc, kelvin: SLOW_OHM / n,
        "C1": lambda soc, kelvin: SLOW_S * n / SLOW_OHM,
    }
    experiment = thevenin.Experiment()
    for power in power_w:
        experiment.add_step("power_W", float(power), (STEP_S, STEP_S))
    solution = thevenin.Simulation(parameters).run(experiment)
    ends = np.arange(1, len(power_w) + 1) * STEP_S
    return stored_share(np.interp(ends, solution.vars["time_s"], solution.vars["soc"]))


def modelled(battery: Battery, power_w: Floats, soc: float) -> Floats:
    """The same by the battery model; without self-discharge, which the circuit has not."""
    state, found = battery.state(float(stored_share(np.array(soc)))), []
    for power in power_w:
        state, _ = battery.step(state, panel_w=max(-power, 0.0), load_w=max(power, 0.0), seconds=STEP_S)
        found.append(battery.soc(state)[0])
    return np.array(found)


def camera_days() -> Floats:
    """What a reference camera at a half takes of its battery for three days of Miami, and the panel gives it."""
    device = reference_device(panel_w=17.0)
    traces = draw_traces(read_climate("miami"), "train", [0], n_days=3, first_day=100, step_s=STEP_S)
    workload = device.workload.share(traces.events_per_h[0])
    load_w = device.board.converter.input_w(device.profile.idle_w + device.profile.power_w[8] * workload)
    return np.asarray(load_w - device.panel.power_w(traces.irradiance_w_m2[0], traces.air_c[0]))


@pytest.mark.parametrize(("usable_wh", "share_of_power"), [(120.0, 1.0), (40.0, 0.3)])
def test_with_the_efficiencies_of_its_mean_power_a_battery_goes_as_the_circuit(
    usable_wh: float, share_of_power: float
) -> None:
    power_w = share_of_power * camera_days()
    expected = circuit(usable_wh, power_w, 0.7)
    assert expected.min() > 0.05
    assert expected.max() < 0.95
    assert np.ptp(expected) > 0.3
    hours = STEP_S / 3600.0
    out_w, in_w = power_w[power_w > 0.0].mean(), -power_w[power_w < 0.0].mean()
    start = float(stored_share(np.array(0.7)))
    battery = Battery(
        usable_wh=usable_wh,
        discharge_efficiency=hours * out_w / usable_wh / (start - circuit(usable_wh, np.array([out_w]), 0.7)[0]),
        charge_efficiency=(circuit(usable_wh, np.array([-in_w]), 0.7)[0] - start) * usable_wh / (hours * in_w),
    )
    assert 0.98 < battery.discharge_efficiency < 1.0
    np.testing.assert_allclose(modelled(battery, power_w, 0.7), expected, atol=0.002)


def test_the_efficiencies_of_the_reference_device_promise_less_than_the_circuit_keeps() -> None:
    power_w = camera_days()
    battery = reference_device().board.battery
    assert (modelled(battery, power_w, 0.7) <= circuit(battery.usable_wh, power_w, 0.7) + 1e-3).all()


def test_a_resistance_takes_the_more_the_larger_the_power() -> None:
    """What two constant efficiencies cannot say, and why they are those of a mean power."""
    usable_wh, start = 120.0, float(stored_share(np.array(0.7)))
    kept = [power * STEP_S / 3600.0 / usable_wh / (start - circuit(usable_wh, np.array([power]), 0.7)[0])
            for power in (5.0, 10.0, 40.0)]  # fmt: skip
    assert kept == sorted(kept, reverse=True)
    assert kept[0] == pytest.approx(0.998, abs=0.001)
    assert kept[-1] == pytest.approx(0.986, abs=0.002)
