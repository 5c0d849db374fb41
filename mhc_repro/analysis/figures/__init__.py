"""Every figure that a comparison of runs gets, by the end of its file name.

The figure by depth is of a whole study, the one by scaling of the bench; they are called by name.
"""

from mhc_repro.analysis.figures.details import CAPTION as DETAILS
from mhc_repro.analysis.figures.details import details
from mhc_repro.analysis.figures.mappings import CAPTION as MAPPINGS
from mhc_repro.analysis.figures.mappings import mappings
from mhc_repro.analysis.figures.training import GAINS, gain_by_layer, loss_gap, training

__all__ = [
    "CAPTIONS",
    "FIGURES",
    "GAINS",
    "OF_FAMILIES",
    "details",
    "gain_by_layer",
    "loss_gap",
    "mappings",
    "training",
]

OF_FAMILIES = ("training", "gain-by-layer")  # where many arms are drawn by family: pictures are heavy
FIGURES = {
    "training": training,
    "gain-by-layer": gain_by_layer,
    "loss-gap": loss_gap,
    "mappings": mappings,
    "details": details,
}
CAPTIONS = {
    "training": "Loss, gradient norm, composite amax gain and activation gain over training. A cross marks "
    "where a run diverged.",
    "gain-by-layer": "Amax gain by sub-layer: of each H_res alone, of all up to the sub-layer (forward), and "
    "of all from the sub-layer to the end (backward). A residual baseline is 1 by definition.",
    "loss-gap": "Loss minus the baseline's of the same seed, on the same batches; below zero is better than "
    "the baseline.",
    "mappings": MAPPINGS,
    "details": DETAILS,
}
