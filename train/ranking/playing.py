"""Every policy in every setting, and the optimum of every year, into a file that goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tnn_edge.errors import InputError
from tnn_edge.sim.oracle import Optimum, find_optimum
from tnn_edge.sim.playing import Outcome, play
from tnn_edge.sim.traces import Traces
from train.ranking.record import Attained, Optima, Ranked, Ranking
from train.record_file import rounded, write_record
from train.setting import PolicyFile, Setting, policy_files
from train.setting_record import setting_fields, with_fresh

__all__ = ["rank"]

_STRIDE = 960


def rank(
    settings: Sequence[Setting],
    policies: Path,
    ranking: Ranking,
    *,
    n_years: int,
    n_threads: int,
    out: Path,
    on_progress: Callable[[str, float], None],
) -> None:
    """Fill a ranking with what is not in it yet, and write it after every policy and every setting's optima.

    Args:
        settings: where.
        policies: folder of policy files.
        ranking: what is known; changed.
        n_years: years drawn for each setting, from those kept for tests.
        n_threads: that seek optima beside the policies.
        out: file to write.
        on_progress: told what was done, and which share of all work that was.
    """
    files = [policy_files(policies, setting) for setting in settings]  # before the work: a fault in one ends it
    share = 1.0 / len(settings)
    is_stopped = np.zeros(1, np.bool_)
    with ThreadPoolExecutor(n_threads) as beside:  # compiled, without the interpreter's lock
        try:
            for setting, known in zip(settings, files, strict=True):
                traces = setting.simulation.traces(n_days=None, n_years=n_years)
                ranked = _known(ranking, setting, traces)
                sought = [] if ranked.optima else _seek(beside, setting, traces, is_stopped)
                ranked.policies = {name: each for name, each in ranked.policies.items() if name in known}
                for file in known.values():
                    if file.name not in ranked.policies or ranked.policies[file.name].sha256 != file.sha256:
                        told = partial(on_progress, f"{setting}: {file.name}")
                        ranked.policies[file.name] = _play(setting, traces, file, told, 0.3 * share / len(known))
                        write_record(out, ranking)
                if sought:
                    optima = []
                    for i, future in enumerate(sought, start=1):
                        optima.append(future.result())
                        on_progress(f"{setting}: optimum {i} of {len(sought)}", 0.7 * share / len(sought))
                    if min(each.attained for each in optima) <= 0.0:
                        raise InputError(
                            f"{setting}: even the optimum gets nothing in a year; there is nothing to rank"
                        )
                    ranked.optima = Optima(
                        attained=rounded([each.attained for each in optima]),
                        bound=rounded([each.bound for each in optima]),
                        brown_outs=[float(each.brown_outs) for each in optima],
                    )
                write_record(out, ranking)
        except BaseException:
            is_stopped[0] = True
            beside.shutdown(wait=False, cancel_futures=True)
            raise


def _known(ranking: Ranking, setting: Setting, traces: Traces) -> Ranked:
    """What is known of a setting already; where it was another simulation or other years, nothing."""
    for each in ranking.settings:
        if each.is_of(setting, len(traces)):
            return each
    events = setting.device.workload.answerable(traces.events_per_h).sum(axis=1) * traces.step_s / 3600.0
    fresh = Ranked(**setting_fields(setting, traces), events=rounded(events))
    ranking.settings = with_fresh(ranking.settings, fresh)
    return fresh


def _seek(
    beside: ThreadPoolExecutor, setting: Setting, traces: Traces, is_stopped: npt.NDArray[np.bool_]
) -> list[Future[Optimum]]:
    return [
        beside.submit(
            find_optimum, setting.device, traces, i, start_soc=setting.simulation.start_soc, is_stopped=is_stopped
        )
        for i in range(len(traces))
    ]


def _play(
    setting: Setting, traces: Traces, file: PolicyFile, on_progress: Callable[[float], None], share: float
) -> Attained:
    part = share * _STRIDE / traces.n_steps
    outcome: Outcome = play(
        setting.device,
        traces,
        file.policy,
        start_soc=setting.simulation.start_soc,
        on_step=lambda t: on_progress(part) if t % _STRIDE == _STRIDE - 1 else None,
    )[0]
    return Attained(
        sha256=file.sha256,
        utility=rounded(outcome.utility),
        right=rounded(outcome.right),
        brown_outs=rounded(outcome.brown_outs),
        hours_down=rounded(outcome.hours_down),
        mean_u=rounded(outcome.mean_u),
    )
