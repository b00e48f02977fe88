"""Files that run in the interpreters of their frameworks are no tests."""

collect_ignore = ["flax_teacher.py", "keras_teacher.py"]
