"""Why it does not run here: checks of the machine and of what is installed, each fault with its cause and its cure.

It must work where nothing else does. So a check imports what it looks at by itself, what may crash or hang is tried in
a child process, and a check that fails is a finding like any other.
"""

from tnn_edge.doctor.examination import Report, examine
from tnn_edge.doctor.finding import FaultCode, Finding, Status
from tnn_edge.doctor.surroundings import Surroundings

__all__ = ["FaultCode", "Finding", "Report", "Status", "Surroundings", "examine"]
