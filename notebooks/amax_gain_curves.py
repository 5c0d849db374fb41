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
# # Reading the amax-gain curves
#
# What a Hyper-Connection's H_res does to the signal, sub-layer by sub-layer and over training, read from the
# recorded runs in `results/`. Nothing is trained here. Each cell calls the library; to look at runs of your
# own, change `RESULTS` and run all cells.

# %%
from pathlib import Path

from IPython.display import Image

from mhc_repro.analysis import labels, selection
from mhc_repro.analysis.figures import training
from mhc_repro.analysis.theme import to_png
from mhc_repro.evidence import composites
from mhc_repro.evidence.comparison import read_studies
from mhc_repro.evidence.styles import BASELINE
from parts import gain_curves, gains

RESULTS = Path("../results")  # any results root, as seen from this folder; yours: ../results/local

study = selection.choose(read_studies(RESULTS))
print("This reads", labels.title(study))

# %% [markdown]
# The first of the studies `stress`, `stability`, `depth` and `quick` in which a baseline, an HC and an mHC run
# of one seed have ended, at its largest setting. (`stress` has the size of `stability` and ten times its peak
# learning rate, at which gains leave 1.) `quick` is a demonstration of 300 steps; what it shows is how to read,
# not what is true.
#
# ## What the numbers mean
#
# A token's state is a matrix X of n streams. Sub-layer l (odd: attention, even: MLP) does
#
#     X' = H_l X + H_post^T F(H_pre X)
#
# and row i of H_l holds the weights that form output stream i.
#
# - **Forward gain**: the largest |row sum|. A signal that all streams share comes out of stream i times row
#   sum i.
# - **Backward gain**: the largest |column sum|. A gradient that all output streams share comes back to stream
#   j times column sum j.
# - **Single**: of one H_l. **Composite**: of a product, and not the same one in both directions. Forward at l
#   it is H_l ... H_1, from the input up to l; backward at l it is H_L ... H_l, from the output down to l.
#   They are the same matrix only at the two ends.
# - Products are formed **for each token**, then averaged over the tokens of a fixed batch, then the sums are
#   taken: the gain of the mean matrix. The mHC paper does not say in which order its Figures 3 and 7 do this, over
#   which tokens, and the matrices it prints fit either; two sections below show what the alternatives give.
#
# **A residual baseline has gain exactly 1**, at every sub-layer and every step: its H_res is the number 1, a
# product of ones is 1, and no learning changes it. Whatever gives a baseline another number measures
# something else (notebook 2, published_table, is about such a table).

# %%
baseline = selection.one_seed(study, BASELINE).runs[0]
of_baseline = baseline.gains[list(composites.GAINS)]
print(
    f"baseline, {of_baseline.size:,} gains: smallest {of_baseline.min(axis=None)}, "
    f"largest {of_baseline.max(axis=None)}"
)

# %% [markdown]
# ## Over training
#
# The largest gain over the sub-layers at every probe. Each pair of panels shares its axis, which is
# logarithmic only where gains need one.

# %%
Image(to_png(gain_curves.over_training(study)))

# %%
gains.peaks(study).round(3)

# %% [markdown]
# `at sub-layer` and `at step` say where a gain is largest (the first place, when it never leaves 1).
#
# mHC's forward gain is 1 to rounding by construction: Sinkhorn's last step divides by the row sums. Its
# backward gain is what 20 iterations leave of the columns, and a composite collects it from many sub-layers.
#
# ## By sub-layer
#
# At the last probe, and faint the largest over training.

# %%
Image(to_png(training.gain_by_layer(study)))

# %% [markdown]
# Forward composites run from left to right (they collect sub-layers from the input on), backward ones from
# right to left. A curve that is straight on the logarithmic axis multiplies by the same factor at each
# sub-layer. The forward value at the last sub-layer and the backward value at the first are the row and the
# column sums of one and the same matrix, the product of all H_l.
#
# ## By sub-layer, at several steps

# %%
Image(to_png(gain_curves.at_steps(study, "hc")))

# %%
Image(to_png(gain_curves.at_steps(study, "mhc")))

# %% [markdown]
# ## Sub-layer against step
#
# The same gains as a map. White is 1, red above, blue below, on a logarithmic scale; mind that each arm has a
# scale of its own.

# %%
Image(to_png(gain_curves.heat_map(study)))

# %%
Image(to_png(gain_curves.heat_map(study, "single")))

# %% [markdown]
# ## Single against composite
#
# Harmless single gains can multiply to a large one. How much of their product a composite reaches says how
# far the sub-layers agree on which streams to amplify: it is less when a sub-layer amplifies streams that the
# next one ignores, or takes with opposite signs. The product is no ceiling: with negative entries, or where
# tokens with large maps coincide, a composite can pass it. All at the last probe; `growth per sub-layer` is the
# L-th root of the composite through all L sub-layers.

# %%
gains.compounding(study).round(3)

# %% [markdown]
# ## The same gains, computed again
#
# A run stores its mean matrices (`h_single`, `h_forward`, `h_backward` in the gains table) and H_l of some
# single tokens (the tokens table). From those, in numpy and without the code that measured:
#
# 1. the gain of a stored matrix is the recorded gain, up to float32, in which matrices are stored;
# 2. multiplying the stored **means** of the single H_l does *not* give the recorded composite, because the
#    mean of a product is not the product of the means. Over tokens, E[H_2 H_1] = E[H_2] E[H_1] + Cov(H_2,
#    H_1): where one sub-layer mixes strongly for just those tokens for which the other does, the covariance
#    is not zero. Static maps (the same for every token) have none; dynamic ones do, and a product of many
#    sub-layers collects it;
# 3. on the kept tokens both can be formed, and differ in the same way: it is the order of averaging and
#    multiplying, not the recording.

# %%
for arm in ("hc", "mhc"):
    run = selection.one_seed(study, arm).runs[0]
    step = composites.last_kept(run)
    error = composites.stored_error(run, step)
    print(
        f"{arm}, step {step}: gains of the stored matrices are off the recorded ones by at most {error:.0e} of them"
    )

# %%
Image(to_png(gain_curves.averaging(study)))

# %%
run = selection.one_seed(study, "hc").runs[0]
composites.recomputed(run, composites.last_kept(run)).round(3)

# %% [markdown]
# `recorded` is the mean of all probe tokens' own products, `of averages` the product of their mean matrices;
# `kept` and `kept, of averages` are the same two on the kept tokens. Where the product has one factor
# (forward at the first sub-layer, backward at the last) there is nothing to disagree about.
#
# ## Which average, which sum
#
# The largest |row sum| is convex, so that of a mean is at most the mean of each token's own; tokens with
# large gains in different streams average out in the first and not in the second. The induced norm adds
# absolute values where the amax gain adds signed ones, so it is at least the amax gain, and equals it when no
# entry is negative.

# %%
gains.readings(study).round(3)

# %% [markdown]
# ## What this cannot say
#
# - A gain is not a loss. Whether amplification hurts is in the loss and the gradient norm, not here.
# - A gain of 1 does not mean healthy: J/n, which averages all streams into one, has gain 1 too. `sigma2` and
#   `spread` in the gains table tell.
# - The metric sees the largest sum only; a column sum near 0, a gradient that fades, is in the stored matrices
#   (`h_backward`), and in the figure of details.
# - One seed is one seed, and these nets are small: the paper's 3000 is of 60 sub-layers and 27B parameters.
