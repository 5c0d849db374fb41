"""What may be wrong with a run: the codes that a verdict finds, and that an arm declares it expects."""

from typing import Literal, NamedTuple


class Reason(NamedTuple):
    """A finding: what a table's cell says, what it means, and the field of a Verdict that it goes into."""

    short: str
    meaning: str
    kind: Literal["dead", "off_the_constraint", "applied_otherwise"] = "dead"


REASONS = {
    "streams_never_separated": Reason(
        "streams never separated",
        "nothing but rounding tells the streams apart, so this is a single-stream net; "
        "usually a start that treats the streams alike (equal reads and writes, no home stream)",
    ),
    "h_res_identity": Reason(
        "H_res = I",
        "H_res is I in every sub-layer, so nothing is mixed; usually a start so deep in a corner "
        "that its gradient vanishes (a low temperature, logits far apart)",
    ),
    "h_res_uniform": Reason(
        "H_res = J/n",
        "H_res is J/n in every sub-layer, so only the mean of the streams survives; usually a "
        "uniform start that symmetry keeps in place",
    ),
    "h_res_saturated": Reason(
        "H_res saturated",
        "H_res is a permutation in every sub-layer and its logits no longer matter; usually a low "
        "temperature, or logits far apart",
    ),
    "h_res_frozen": Reason(
        "H_res never moved",
        "H_res never left its start; usually a vanishing gradient, or a learning rate too small for the steps",
    ),
    "gates_saturated": Reason(
        "gates saturated",
        "H_pre or H_post is at the end of its range in every sub-layer, where its gradient "
        "vanishes; usually a start too far out",
    ),
    "connection_gradients_dead": Reason(
        "gradients of the maps gone",
        "the gradients of the connections are zero or rounding noise; usually streams "
        "that are alike, or maps that are not applied",
    ),
    "constraint_missed": Reason(
        "H_res sums are off 1",
        "rows or columns of an H_res that should be doubly stochastic do not sum to 1; usually "
        "too few iterations for logits this far apart",
        kind="off_the_constraint",
    ),
    # Of models of one's own alone (library/monitor.py), which finds them and puts them into the run's nature
    "h_res_transposed": Reason(
        "H_res used transposed",
        "what a sub-layer passes on is H_res^T X + H_post^T y; what is measured is what is applied, whose forward "
        "and backward gains have changed places",
        kind="applied_otherwise",
    ),
    "maps_unexplained": Reason(
        "maps do not explain the streams",
        "what is passed on is not H_res X + H_post^T y, whatever y; usually another release of the code than its "
        "adapter knows, or something between connections that is not one",
        kind="applied_otherwise",
    ),
    "columns_exact": Reason(
        "columns exact, rows not",
        "the columns of H_res sum to 1 and its rows do not, where mHC's Eq. 9 normalises rows last; usually a "
        "Sinkhorn that ends on the other side, or H_res used transposed",
        kind="applied_otherwise",
    ),
    "streams_interrupted": Reason(
        "streams interrupted",
        "a connection was given other streams than the one before it passed on, so that products over the depth "
        "are not the model's; usually two sets of streams or a part that is called twice (watch each by itself), "
        "or something between connections",
        kind="applied_otherwise",
    ),
}
INTERRUPTED = "streams_interrupted"
OFF = "constraint_missed"
# By the run's nature, whatever was recorded
TOLD = tuple(code for code, reason in REASONS.items() if reason.kind == "applied_otherwise")
