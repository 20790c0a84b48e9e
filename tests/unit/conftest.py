from hypothesis import settings

# A busy machine is no failure; a property that needs more examples says so.
settings.register_profile("unit", deadline=None, max_examples=100)
settings.load_profile("unit")
