"""The hand-written texts of the model report."""

from __future__ import annotations

OPENING = (
    "Written by `python -m training report`; only the words are by hand, the figures are measured.",
    "",
    "## What was wrong before",
    "",
    "The models of the first release learnt from a value that is another one when a "
    "prediction is made. In the published data all 46 pupils with a final grade of 0, who "
    "left the course, have no absences on record, and of the 452 pupils with any absence none "
    "has a 0. So the models took a pupil without absences for one who leaves. At the start of "
    "a school year, when all pupils have no absences, they predicted up to 1.7 grades too low "
    "for the whole school. Their figures on held-out pupils (MAE 0.811, 1.492 and 2.691; CRPS "
    "0.586, 1.025 and 1.866 with both grades, with the first, with none) were too good for "
    "the same reason. On pupils who leave with ordinary absences they were worse than the "
    "rule of thumb.",
    "",
    "In training and in every figure below, the absences of pupils who left count as unknown. "
    "The figures are worse than before. They are the ones to expect in use.",
    "",
    "## The model",
    "",
    "It tells two questions apart: whether a pupil finishes, and the grade of those who do. "
    "One gradient boosting for each predicts them at each moment of the year: the chance of "
    "leaving, without looking at absences, and the change since the last grade. Around the "
    "change lie the errors made on pupils that the fit had not seen. The predicted grade is "
    "the median of that distribution; pass probability and interval are read off it. More "
    "failures or absences never raise a prediction, higher grades never lower it: the trees "
    "are constrained. What is not known of a pupil widens the distribution.",
)

TRIED = (
    "Where the rule of thumb is as good, a school loses nothing by using it: with both grades "
    "known the model's gain lies in the distribution (CRPS, interval), hardly in the grade "
    "itself.",
    "",
    "What was tried on the way (10-fold, one seed; MAE with both grades, with the first, with "
    "none): squared error of the change without rows of which values are hidden 1.00, 1.66, "
    "2.71; 40 iterations 0.89, 1.66, 2.76; 100 iterations of at most four leaves 0.88, 1.66, "
    "2.73; leaves of at least 40 pupils 0.93, 1.66, 2.74; stronger regularisation 0.88, 1.64, "
    "2.71; ten leaves 0.89, 1.65, 2.70.",
    "",
    "A sharper distribution with both grades would have to know who leaves. With the errors of "
    "those who finish around the last grade, and the chance of leaving from one learner or "
    "another (10-fold, one seed), the CRPS is 0.681 by boosting, 0.674 by logistic regression, "
    "0.678 by a forest and 0.674 by the mean of the first two; by an oracle that knows who leaves "
    "it would be 0.428; the rule of thumb has 0.700. Isotonic distributional regression on the "
    "predicted change, and kernels around it, gave 0.682 to 0.684, as the model itself.",
    "",
    "A value that may be unknown is hidden at random in a copy of each training row (15 %; with "
    "30 % the MAE is 0.884, 1.649 and 2.753 in place of 0.879, 1.635 and 2.747). With nothing "
    "known but school, age and the grades the MAE is 0.878, 1.716 and 3.016, the intervals hold "
    "90, 91 and 88 %, and are wider with the first grade (5.5 grades in place of 5.3).",
    "",
    "For the absolute error scikit-learn sets the leaves anew and forgets the declared directions "
    "in that: with one absence more a real pupil could be predicted up to 0.47 better. The leaves "
    "are put in order now. While no grade is known, absences do not count at all: they are counted "
    "from the start of the year. Together that costs 0.01 to 0.03 of the MAE there.",
    "",
    "A small step of a grade can still move a prediction by whole grades where there are no pupils "
    "to learn from. Of the 662 pupils one has a second grade between 0 and 5, and those with a 0 "
    "left: for a second grade of 4.5 in place of 4.6 the prediction falls by up to 4.6 grades. At "
    "all other second grades a step of 0.1 moves it by at most 1, with the first grade alone by "
    "at most 0.9, and at the grades that the pupils really have by 0.1. The aim was 1 everywhere. "
    "Straight lines between whole grades, for all that the trees return, would leave a step of 3.1 "
    "and more steps above 1 (887 in place of 639): the grade shown is the median, which falls to "
    "the lowest grade once a pupil is likelier to leave than to stay.",
)

PUBLISHED = (
    "Here the absences are as recorded, as in the study. These figures are too good for the "
    "reason above, and for comparison only.",
)
