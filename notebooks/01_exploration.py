# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1. What the data says before any model
#
# Who are these pupils, how are their grades distributed, and what is known in October, in January
# and in spring? Everything here comes from `training/`: the data is read, checked and hidden by the
# very code that trains, so what is seen here is what the model sees.
#
# The data is whatever a training would use: `DATA_PATH`, else `data/final.csv`, else the synthetic
# sample. The outputs kept with this notebook are of the merged UCI data; no pupil's row is shown.

# %%
import sys
from pathlib import Path

if Path.cwd().name == "notebooks":
    sys.path.insert(0, str(Path.cwd().parent))

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from student_success.core.configuration.settings import Settings
from student_success.domain.students import FEATURES, NUMERIC, PASS_GRADE, TARGET
from training.data.dataset import load
from training.fitting.families import hide, last_known

plt.rcParams.update(
    {"figure.dpi": 70, "axes.spines.top": False, "axes.spines.right": False, "font.size": 9}
)
BLUE, BROWN, GREY = "#1f5a8a", "#b0752a", "#999999"

data = load(Settings())
pupils = data.frame
grades = pupils[TARGET].to_numpy()
pd.Series(data.describe(), name="the data").to_frame()

# %% [markdown]
# ## Three grades, one hump, and a spike at zero
#
# The three grades look alike: a hump around 11. But some pupils end with **0**: they left the
# course. They were weaker than the others from the start, but far from 0 in the first period, where
# nobody has it; a few have it in the second. No model that knows only these features can see all of
# it coming, and they make up nearly half of the squared deviation.

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 2.6), sharey=True, layout="constrained")
bins = np.arange(-0.5, 21).tolist()
for at, name in zip(axes, ("G1", "G2", TARGET), strict=True):
    at.hist(pupils[name].dropna(), bins=bins, color=BLUE if name != TARGET else BROWN)
    at.axvline(PASS_GRADE - 0.5, color=GREY, linestyle="--", linewidth=1)
    at.set_title(name)
    at.set_xlabel("grade")
axes[0].set_ylabel("pupils")
plt.show()

# %%
left = grades == 0
deviation = (grades - grades.mean()) ** 2
pd.Series(
    {
        "pupils": len(pupils),
        "final grade 0": int(left.sum()),
        "pass (10 or more)": f"{(grades >= PASS_GRADE).mean():.1%}",
        "median G1 of those who end with 0": pupils.loc[left, "G1"].median(),
        "median G1 of the others": pupils.loc[~left, "G1"].median(),
        "share of the squared deviation made by the zeros": (
            f"{deviation[left].sum() / deviation.sum():.0%}"
        ),
    },
    name="",
).to_frame()

# %% [markdown]
# ## What goes with the final grade
#
# Rank correlations, since most of these numbers are answers on a scale. The period grades outshine
# everything; past failures come next. What is left is weak, which is why a prediction in October
# has to be, and is, much less sure.

# %%
numbers = pupils[[*NUMERIC, TARGET]]
ranks = numbers.corr(method="spearman")
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=(1.25, 1), layout="constrained")
shown = axes[0].imshow(ranks, vmin=-1, vmax=1, cmap="RdBu_r")
axes[0].set_xticks(range(len(ranks)), ranks.columns, rotation=90)
axes[0].set_yticks(range(len(ranks)), ranks.columns)
axes[0].set_title("rank correlation of the numbers")
figure.colorbar(shown, ax=axes[0], shrink=0.8)
ordered = ranks[TARGET].drop(TARGET).sort_values()
axes[1].barh(ordered.index, ordered, color=np.where(ordered < 0, BROWN, BLUE).tolist())
axes[1].axvline(0, color=GREY, linewidth=0.8)
axes[1].set_title("with the final grade")
plt.show()

# %% [markdown]
# The categories, as the mean final grade of each answer with its 95 % interval. Wanting higher
# education stands out; most other intervals overlap.

# %%
categories = [feature for feature in FEATURES if feature.kind == "category"]
figure, at = plt.subplots(figsize=(10, 3.0), layout="constrained")
place, ticks = 0, []
for feature in categories:
    by_answer = pupils.groupby(feature.name, observed=True)[TARGET].agg(["mean", "sem", "size"])
    for answer, row in by_answer.iterrows():
        at.errorbar(place, row["mean"], yerr=1.96 * row["sem"], fmt="o", color=BLUE, capsize=2)
        ticks.append((place, f"{feature.name}: {answer} ({row['size']:.0f})"))
        place += 1
    place += 1
at.axhline(grades.mean(), color=GREY, linestyle="--", linewidth=0.8)
at.set_xticks([tick for tick, _ in ticks], [label for _, label in ticks], rotation=90)
at.set_ylabel("mean final grade")
plt.show()

# %% [markdown]
# ## The rule of thumb, and how it errs
#
# "The final grade will be the last grade known": G2, else G1, else the median. Any model has to
# beat this, and with G2 known that is hard. `hide` shows each pupil as at each moment of the year,
# which is how one model learns to answer at all three.

# %%
rows, whose, horizons = hide(pupils)
error = last_known(rows, base=float(np.median(grades))) - grades[whose]
figure, axes = plt.subplots(1, 2, figsize=(10, 2.8), layout="constrained")
for horizon, colour in zip(("none", "G1", "G1+G2"), (GREY, BROWN, BLUE), strict=True):
    here = horizons == horizon
    by_grade = pd.Series(np.abs(error[here])).groupby(grades[whose[here]]).mean()
    axes[0].plot(by_grade.index, by_grade, color=colour, label=f"known: {horizon}")
axes[0].set_xlabel("final grade")
axes[0].set_ylabel("mean absolute error")
axes[0].set_title("the rule of thumb, by final grade")
axes[0].legend(frameon=False)
axes[1].hist(
    (grades - pupils["G2"]).dropna(), bins=np.arange(-15.5, 6.5).tolist(), color=BLUE, log=True
)
axes[1].set_xlabel("final grade minus G2")
axes[1].set_ylabel("pupils (log scale)")
axes[1].set_title("what is left to learn when G2 is known")
plt.show()

pd.DataFrame(
    {
        horizon: {
            "MAE": np.abs(error[horizons == horizon]).mean(),
            "RMSE": np.sqrt((error[horizons == horizon] ** 2).mean()),
        }
        for horizon in ("G1+G2", "G1", "none")
    }
).round(3)

# %% [markdown]
# So the model learns the *change* since the last known grade: what is left is small, mostly within
# one point, with a long tail downwards that is the pupils who leave. That is also why the interval
# around a prediction cannot be the same for everybody. How well that works is the next notebook.
