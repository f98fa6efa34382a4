"""`python -m student_success`: the same command line as `student-success`."""

from student_success.cli.main import run

if __name__ == "__main__":
    run()
