"""`python -m training`: the commands on training data; see `student_success.cli`."""

import sys

from student_success.cli.training_commands import main

if __name__ == "__main__":
    sys.exit(main())
