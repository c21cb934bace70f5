"""Link a bundle for this machine and run it at any throttle."""

from tnn_edge.runtime.engine import Engine
from tnn_edge.runtime.installing.plans import PlanSet, find_plans, install
from tnn_edge.runtime.loading import load
from tnn_edge.runtime.providers import SessionSettings
from tnn_edge.runtime.result import Result

__all__ = ["Engine", "PlanSet", "Result", "SessionSettings", "find_plans", "install", "load"]
