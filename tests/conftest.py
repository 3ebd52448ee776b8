"""What holds for every test: the same hypothesis examples in every run, so that a red build is red again at home."""

from hypothesis import settings

settings.register_profile("steady", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("steady")
