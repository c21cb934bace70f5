"""Graph rewrites of the linker: one in each file, each says whether it changed the model."""

from tnn_edge.runtime.linking.passes.absent import RemoveAbsentBranches
from tnn_edge.runtime.linking.passes.fold_norm import FoldNormalisation
from tnn_edge.runtime.linking.passes.relu import RemoveRepeatedRelu
from tnn_edge.runtime.linking.passes.round_weights import RoundWeights
from tnn_edge.runtime.linking.passes.slicing import SliceComponents

__all__ = ["FoldNormalisation", "RemoveAbsentBranches", "RemoveRepeatedRelu", "RoundWeights", "SliceComponents"]
