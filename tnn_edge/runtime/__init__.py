"""Link a bundle for this machine and run it at any throttle."""

from tnn_edge.runtime.engine import Engine, Result, load
from tnn_edge.runtime.plans import PlanSet, find_plans, install
from tnn_edge.runtime.providers import SessionSettings

__all__ = ["Engine", "PlanSet", "Result", "SessionSettings", "find_plans", "install", "load"]
