"""The steps of the pipelines, one verb_noun a file. Importing this package registers the coders of what travels."""

from transforms.coders import register_coders

register_coders()
