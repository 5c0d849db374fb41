# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Anatomy of a published table: why 25.4 becomes 7.0
#
# An enwik8 reproduction of mHC in circulation prints an "amax gain" of 25.40 for a baseline, 27.72 for HC and
# 6.99 for mHC, 3.6 times smaller than the baseline. This notebook takes that number apart, with runs of its
# own protocol and arms (study `published`). Nothing is trained here; runs that are not recorded yet are
# named, and their figures and cells left out.

# %%
from pathlib import Path

from IPython.display import Image, display

from mhc_repro.analysis import selection
from mhc_repro.analysis.printed import number
from mhc_repro.analysis.theme import to_png
from mhc_repro.evidence.comparison import read_studies
from parts import anatomy, gain_curves
from parts import anatomy_figures as draw

RESULTS = Path("../results")  # any results root, as seen from this folder; yours: ../results/local

studies = read_studies(RESULTS)
found = selection.fullest(studies.get(anatomy.STUDY, []), anatomy.ARMS)
print(anatomy.state_of_arms(found))


def show(figure, *arms):
    """Show a figure if a run of these arms is there, and say which are missing."""
    gone = selection.missing(found, arms)
    if gone:
        print("not recorded yet, so not drawn:", ", ".join(gone))
    if len(gone) < len(arms):
        display(Image(to_png(figure(found))))


# %% [markdown]
# ## The table
#
# Published, and ours where it has been run; a dash is what has not. `baseline, F/4` is a control of ours that
# is not in the published table: the plain residual net x + F(x)/4. (Which of the published numbers reproduce
# is in results/FINDINGS.md.)

# %%
anatomy.published_and_ours(found).map(number)

# %% [markdown]
# ## What its "amax gain" is
#
# The mHC paper's amax gain is a property of the products of H_res, and a residual baseline has exactly 1 by
# definition. A baseline of 25.40 cannot be that. What the reproduction computes is
#
#     max|x after the last sub-layer| / max|x before the first|
#
# over batch, tokens, streams and features, in train mode on the batch just trained on: how far activations
# grow. In a pre-norm net x_L = x_0 + F_1 + ... + F_L, so it says how large the branches' outputs are beside
# the embedding; no H_res is involved.
#
# Here are both for the same runs. The paper's gain, from H_res alone:

# %%
show(gain_curves.over_training, *anatomy.ARMS)

# %% [markdown]
# And the ratio that the table prints, with what a quarter of the baseline's growth would give:

# %%
show(draw.activation, *anatomy.ARMS)

# %% [markdown]
# ## Where the quarter comes from
#
# The reproduction's mHC arm has static maps, H_pre = softmax, H_post = softmax, H_res = Sinkhorn, and every
# raw number starts at 0. So H_pre = H_post = (1/n, ..., 1/n) and H_res = J/n, and all n streams start as
# copies of x. Then
#
#     h  = sum_i x / n               = x
#     X' = J/n X + 1/n F(h) each     = x + F(x)/n   in every stream,
#
# copies again: the net is the baseline with its branches times 1/n. It remains so, for by symmetry no map
# gets a gradient. The output reads the mean of equal streams, so the loss has the same gradient g with
# respect to each of them, and
#
# - dL/dH_pre is the same number for every stream, and softmax does not change under a shift of all its
#   logits;
# - dL/dH_post is <g, F> for every stream: the same again;
# - dL/dH_res is <g, x> for every entry, and to first order Sinkhorn moves its result only by matrices whose
#   rows and columns sum to 0, on which a constant does nothing.
#
# Weight decay keeps 0 at 0. Only rounding could ever break the tie. Hence n, not double stochasticity,
# divides the branches, and if they were otherwise the baseline's, a ratio r would become 1 + (r − 1)/n. With
# n = 4:

# %%
anatomy.prediction(found).map(number)

# %% [markdown]
# The prediction is a rule of thumb: a maximum of sums is not a sum of maxima, and a net with smaller branches
# trains to other weights. The last column is the control that needs no rule: a baseline that really has F/4
# and no streams, no H_res and no Sinkhorn at all. With n = 8 the same code would print about 1 + 24.4/8 =
# 4.05, and look better still.
#
# ## Do the streams separate, do the maps learn?

# %%
show(draw.separation, anatomy.HC, anatomy.MHC)

# %%
anatomy.symmetry(anatomy.with_streams(studies)).map(number)

# %% [markdown]
# The largest values over each run; the axes above have a true 0. A matrix a I + b J treats all streams alike.
# Arms that start as in the papers (HC reads sub-layer l from stream l mod n; mHC's biases prefer a home
# stream) break the symmetry with their first step, and are listed for contrast.
#
# The reproduction's HC arm reads at 1/n, writes at 1 and starts at H_res = I, which is symmetric too. Its
# maps do get gradients, but the same for every stream: in exact arithmetic H_res stays of the form
# a I + b J, the streams stay copies, and the arm is a single-stream net with two learned gains per sub-layer, on
# the stream and on the branch. In float32 Adam turns the rounding of equal gradients into steps of full size, so
# a spread may show above all the same; it began as rounding.
#
# ## Two arms or one?
#
# If the mHC arm is the baseline with branches times 1/4, both must have the same loss on every batch (same
# weights, batches and dropout masks for a seed), up to rounding that training then amplifies.

# %%
print(anatomy.twin_losses(found))

# %%
show(draw.losses, *anatomy.TWINS)

# %% [markdown]
# ## What follows
#
# - The table's "amax gain" is activation growth, and what divides it in the mHC arm is the 1/n of a softmax
#   over n streams.
# - It says nothing for or against mHC: nothing but rounding tells the streams of either multi-stream arm apart.
# - Compare arms by gains of H_res (notebook 1, amax_gain_curves), with streams that separate, and by held-out loss
#   over several seeds.
