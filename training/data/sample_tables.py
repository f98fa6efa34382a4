"""Aggregates of the real data from which the synthetic sample is generated; no row is included.

Measured on the merged UCI data (662 pupils, see `training.data.prepare`): shares, rank
correlations and how grades move from one period to the next. Rare values are pooled, and the counts
of such moves are smoothed by hand.
"""

from __future__ import annotations

PUPILS = 1000

LONG_ABSENCES = {"some": (21, 30), "many": (31, 75)}
"""Absences of few pupils, pooled: spread evenly within these bounds."""

MARGINALS: dict[str, dict[str | int, int]] = {
    "school": {"GP": 656, "MS": 344},
    "sex": {"F": 589, "M": 411},
    "age": {15: 169, 16: 261, 17: 269, 18: 215, 19: 68, 20: 12, 21: 4, 22: 2},
    "address": {"U": 696, "R": 304},
    "famsize": {"GT3": 696, "LE3": 304},
    "Pstatus": {"T": 875, "A": 125},
    "Medu": {0: 9, 1: 226, 2: 287, 3: 218, 4: 260},
    "Fedu": {0: 11, 1: 270, 2: 326, 3: 201, 4: 192},
    "reason": {"other": 112, "course": 435, "home": 228, "reputation": 225},
    "nursery": {"no": 207, "yes": 793},
    "traveltime": {1: 564, 2: 332, 3: 80, 4: 24},
    "studytime": {1: 329, 2: 470, 3: 148, 4: 53},
    "failures": {0: 778, 1: 146, 2: 41, 3: 35},
    "schoolsup": {"no": 894, "yes": 106},
    "famsup": {"no": 397, "yes": 603},
    "paid": {"no": 707, "yes": 293},
    "activities": {"no": 520, "yes": 480},
    "higher": {"no": 109, "yes": 891},
    "freetime": {1: 71, 2: 168, 3: 378, 4: 276, 5: 107},
    "goout": {1: 73, 2: 227, 3: 320, 4: 220, 5: 160},
    "absences": {
        **{0: 317, 1: 17, 2: 163, 3: 18, 4: 128, 5: 26, 6: 66, 7: 11, 8: 68, 9: 14, 10: 44},
        **{11: 12, 12: 26, 13: 6, 14: 21, 15: 5, 16: 14, 17: 2, 18: 9, 19: 2, 20: 6},
        **{"some": 18, "many": 7},
    },
    "G1": {
        **{3: 2, 4: 5, 5: 15, 6: 50, 7: 89, 8: 106, 9: 100, 10: 143, 11: 121, 12: 91, 13: 80},
        **{14: 77, 15: 45, 16: 39, 17: 18, 18: 15, 19: 4},
    },
}
"""Pupils in a thousand with each value, values in the order that the correlations assume."""

CORRELATIONS: dict[str, tuple[int, ...]] = {
    "school": (),
    "sex": (-11,),
    "age": (13, -7),
    "address": (53, -3, 3),
    "famsize": (6, 15, 2, -10),
    "Pstatus": (-3, -14, 2, -18, 44),
    "Medu": (-34, 13, -13, -27, -5, 10),
    "Fedu": (-28, 11, -14, -20, -7, 6, 71),
    "reason": (-39, -3, 0, -15, 8, 10, 17, 12),
    "nursery": (0, -8, -7, -2, 18, 11, 20, 14, 5),
    "traveltime": (41, 6, 6, 49, 3, -8, -29, -25, -18, -3),
    "studytime": (-20, -35, 4, -9, -2, 5, 12, 7, 21, 5, -12),
    "failures": (7, 6, 40, 12, -8, 2, -28, -24, -11, -15, 12, -19),
    "schoolsup": (-30, -24, -33, -3, -13, 1, -4, 4, 8, 4, -12, 18, 2),
    "famsup": (-11, -21, -13, -2, -8, -2, 18, 18, 12, 5, -6, 20, -5, 20),
    "paid": (-47, -3, -8, -23, -7, -16, 34, 25, 18, 15, -20, 27, -26, 6, 37),
    "activities": (-14, 18, -9, 2, -2, -22, 15, 10, 15, 6, -4, 8, -5, -5, 0, 4),
    "higher": (-25, -15, -40, -14, 2, -4, 38, 35, 26, 11, -18, 41, -51, 33, 17, 55, 7),
    "freetime": (6, 23, -1, 5, -2, -6, -2, 0, -5, -4, -1, -10, 15, 0, 2, -5, 17, -19),
    "goout": (6, 8, 13, -3, 0, -3, 2, 6, -2, 5, 3, -10, 8, -9, 2, -3, 12, -9, 38),
    "absences": (-33, 7, 18, -13, 5, 20, 9, 5, 13, -1, -7, -3, 16, 1, 9, 10, 6, -1, -1, 11),
    "G1": (-13, 3, -11, -7, 8, 2, 22, 20, 14, 6, -8, 19, -53, -24, -7, 9, 5, 44, -6, -11, -5),
}
"""Correlations (hundredths) of two normal variables that, cut into the marginals, show the rank
correlation measured; each row against the rows above it."""

LEFT: tuple[tuple[int, int], ...] = ((6, 21), (7, 19), (8, 12), (9, 8), (10, 6), (20, 3))
"""Pupils in a thousand whose final grade is 0, for G1 up to each bound: they left the course (46 of
662)."""
LEFT_LIKELIER: tuple[tuple[str, tuple[str | int, ...], float], ...] = (
    ("failures", (1, 2, 3), 1.5),
    ("age", (18, 19, 20, 21, 22), 1.7),
    ("school", ("MS",), 0.4),
    ("paid", ("yes",), 0.55),
    ("schoolsup", ("yes",), 0.2),
    ("activities", ("yes",), 2.0),
)
"""How much likelier that is, as an odds ratio, for a pupil with one of the values."""

LEFT_BEFORE_G2 = 28
"""Of those who left, how many have G2 = 0 as well (19 of 46)."""
LEFT_MOVES = {-3: 1, -2: 2, -1: 14, 0: 5, 1: 4, 2: 1}
"""G2 − G1 of the others who left."""

G2_MOVES: tuple[tuple[int, dict[int, int]], ...] = (
    (6, {-1: 6, 0: 7, 1: 6, 2: 7, 3: 4, 4: 2, 5: 1}),
    (7, {-1: 8, 0: 12, 1: 8, 2: 10, 3: 7, 4: 1}),
    (8, {-3: 1, -2: 3, -1: 9, 0: 13, 1: 19, 2: 13, 3: 3, 4: 1}),
    (9, {-2: 4, -1: 12, 0: 20, 1: 17, 2: 6, 3: 2}),
    (10, {-2: 11, -1: 21, 0: 26, 1: 21, 2: 5, 3: 7}),
    (12, {-3: 1, -2: 15, -1: 27, 0: 45, 1: 34, 2: 9, 3: 4, 4: 3}),
    (14, {-3: 4, -2: 15, -1: 22, 0: 24, 1: 25, 2: 10, 3: 3, 4: 1}),
    (20, {-4: 1, -3: 2, -2: 6, -1: 28, 0: 24, 1: 16, 2: 4}),
)
"""G2 − G1 of those who stayed, for G1 up to each bound."""
G2_LEANS = {"absences": -0.13, "age": -0.10, "studytime": 0.08, "paid": -0.08}
"""Rank correlations of that move with other columns."""
G2_MOVE_SPREAD = 1.43
"""Standard deviation of that move (grades)."""

G3_MOVES: tuple[tuple[int, dict[int, int]], ...] = (
    (6, {-1: 1, 0: 12, 1: 9, 2: 5, 3: 1}),
    (7, {-2: 1, -1: 4, 0: 7, 1: 13, 2: 3}),
    (8, {-2: 1, -1: 4, 0: 23, 1: 13, 2: 10, 3: 2}),
    (9, {-2: 1, -1: 16, 0: 23, 1: 36, 2: 7}),
    (10, {-1: 11, 0: 45, 1: 29, 2: 2, 3: 1}),
    (11, {-2: 2, -1: 15, 0: 42, 1: 17, 2: 2}),
    (12, {-2: 1, -1: 14, 0: 22, 1: 17, 2: 9, 3: 1}),
    (13, {-3: 1, -2: 1, -1: 8, 0: 27, 1: 19, 2: 1}),
    (14, {-1: 5, 0: 22, 1: 15, 2: 2}),
    (16, {-1: 4, 0: 40, 1: 14, 2: 3}),
    (20, {0: 25, 1: 7}),
)
"""G3 − G2 of those who stayed, for G2 up to each bound."""
G3_LEANS = {
    "move": -0.24,
    "paid": -0.16,
    "age": 0.09,
    "absences": -0.04,
    "nursery": -0.06,
    "traveltime": 0.07,
}
