"""Read the tables people bring: class lists, outcomes, training data.

bytes → format → encoding → delimiter → sheet → header row → columns → rows. A cell that cannot be
read with certainty is refused with a reason; it is never read as another value.
"""
