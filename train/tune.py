"""Tune a policy for a device, on the days that are kept for learning.

    python -m train.tune examples/demo/simulation.toml --kind price --trials 60 --out price.toml

Optuna searches with a study in a journal file, so that a search goes on where it was stopped, and several processes or
machines may share one. What is maximised is utility over events, mean of the sites, at decisions every hour.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import optuna
import typer
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import MaxTrialsCallback
from optuna.trial import TrialState
from rich.console import Console
from rich.progress import Progress

from tnn_edge.cli.program import program
from tnn_edge.control import REFERENCE, read_policy, table_hash
from tnn_edge.errors import InputError
from tnn_edge.sim.camera_device import CameraDevice
from tnn_edge.sim.climate import Climate, read_climate
from tnn_edge.sim.drawing import Surroundings, draw_traces
from tnn_edge.sim.playing import play
from tnn_edge.sim.simulation import read_simulation
from tnn_edge.sim.traces import Traces
from tnn_edge.whole_file import check_writable, write_whole
from train.setting_record import digest_of
from train.tunable import KINDS, PRICED, Place, build_policy, device_settings, policy_settings

__all__ = ["policy_text", "tune"]

_STEP_S = 3600.0


def tune(
    kind: str,
    device: CameraDevice,
    sites: Sequence[Climate],
    *,
    surroundings: Surroundings,
    n_years: int,
    study: optuna.Study,
    n_trials: int,
    on_trial: Any = None,
) -> dict[str, float]:
    """Search until a study has so many finished trials.

    Args:
        kind: of policy, one of `KINDS`.
        device: what it runs on.
        sites: where; their days for training are used.
        surroundings: lamps, haze and work.
        n_years: years drawn for each site.
        study: that goes on.
        n_trials: finished trials that it shall have.
        on_trial: told after each trial, as Optuna's callbacks are.

    Returns:
        The best numbers found.
    """
    drawn = [draw_traces(site, "train", range(n_years), step_s=_STEP_S, surroundings=surroundings) for site in sites]

    def objective(trial: optuna.Trial) -> float:
        found = {
            name: trial.suggest_float(name, each.low, each.high, log=each.is_log) for name, each in KINDS[kind].items()
        }
        return mean_utility(kind, found, device, sites, drawn)

    if _n_finished(study) < n_trials:
        enough = MaxTrialsCallback(n_trials, states=(TrialState.COMPLETE,))  # counts those of other processes too
        study.optimize(objective, callbacks=[enough, *([on_trial] if on_trial else [])])
    return study.best_params


def _n_finished(study: optuna.Study) -> int:
    return len(study.get_trials(states=[TrialState.COMPLETE]))


def mean_utility(
    kind: str, found: Mapping[str, float], device: CameraDevice, sites: Sequence[Climate], drawn: Sequence[Traces]
) -> float:
    """Utility over events, mean of the sites."""
    shares = []
    for site, traces in zip(sites, drawn, strict=True):
        outcome, _ = play(device, traces, build_policy(kind, found, device, Place.of_climate(site)))
        shares.append(outcome.utility.sum() / outcome.events.sum())
    return float(sum(shares) / len(shares))


def policy_text(
    kind: str,
    found: Mapping[str, float],
    device: CameraDevice,
    place: Place,
    *,
    about: str,
    profile: str = REFERENCE,
) -> str:
    """A policy file with the numbers that were found.

    Args:
        kind: of policy.
        found: numbers that were searched.
        device: that it was tuned for.
        place: where.
        about: its first line.
        profile: of the device, as the policy file names it.
    """
    settings = {**device_settings(kind, device, place), **policy_settings(kind, found)}
    lines = [f"# {about}", "", f'observation_hash = "{table_hash()}"', "", f"[{kind}]"]
    lines += [f"{name} = {_toml(value)}" for name, value in settings.items()]
    if kind in PRICED:
        lines.append(f"profile = {json.dumps(profile)}  # of the device that it was tuned for")
    lines += ["", "[governor]", "unknown_u = 0.0  # u while a signal is unknown that the policy needs", ""]
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_toml(each) for each in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(each)}' for key, each in value.items())} }}"
    return f"{float(value):.6g}" if float(value) != round(float(value)) else f"{float(value):.1f}"


def main(
    simulation: Annotated[Path, typer.Argument(help="Simulation file: device, site and work.", show_default=False)],
    kind: Annotated[str, typer.Option(help=f"One of {', '.join(KINDS)}.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Policy file to write.")],
    site: Annotated[
        list[str] | None, typer.Option(help="Tune for these sites at once; by default the simulation's.")
    ] = None,
    battery_wh: Annotated[
        float | None, typer.Option(min=1.0, help="Usable energy of the battery; by default the simulation's.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Finished trials that the study shall have.")] = 60,
    years: Annotated[int, typer.Option(min=1, max=100, help="Years of weather for each site.")] = 4,
    study: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Journal of the study; by default FILE.journal beside --out.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the search.")] = 0,
) -> None:
    """Tune a policy for a device, on the days that are kept for learning."""
    if kind not in KINDS:
        raise InputError(f"--kind must be one of {', '.join(KINDS)}, got {kind!r}")
    check_writable(out, "policy file")
    read = read_simulation(simulation)
    device = read.device if battery_wh is None else read.device.with_battery(battery_wh)
    sites = [read_climate(name) for name in site] if site else [read.site()]
    for each in sites:
        each.days_of("train")  # before the study: a site that is kept for tests is refused
    journal = out.with_suffix(".journal") if study is None else study
    check_writable(journal, "journal")
    optuna.logging.set_verbosity(logging.WARNING)
    names = "+".join(each.site for each in sites)
    found_study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name=f"{kind} {device.board.battery.usable_wh:g} Wh {names}",
        direction="maximize",
        load_if_exists=True,
    )
    # Another process, and one that goes on, does not try the same numbers again.
    found_study.sampler = optuna.samplers.TPESampler(seed=seed + len(found_study.trials))
    _check_same(found_study, journal, {"simulation": digest_of(read), "years": years})
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task("tuning", total=trials)
        found = tune(
            kind,
            device,
            sites,
            surroundings=read.surroundings,
            n_years=years,
            study=found_study,
            n_trials=trials,
            on_trial=lambda _study, _trial: progress.advance(bar),
        )
    about = f"Tuned on training days of {names}: utility {found_study.best_value:.4f} of an event there"
    profile = REFERENCE if read.profile is None else os.path.relpath(read.profile, out.absolute().parent)
    text = policy_text(kind, found, device, Place.of_climate(sites[0]), about=about, profile=profile)
    write_whole(out, text.encode(), "policy file")
    read_policy(out)
    typer.echo(f"{out}: {about}, in {_n_finished(found_study)} trials")


def _check_same(study: optuna.Study, journal: Path, about: Mapping[str, Any]) -> None:
    """Numbers of another simulation, or of other years, are no numbers to go on from."""
    known = study.user_attrs
    for name, value in about.items():
        if known.get(name, value) != value:
            raise InputError(f"{journal} has a study of {study.study_name} with other {name}; name another --study")
        study.set_user_attr(name, value)


if __name__ == "__main__":
    program(main)
