"""The steps of the pipelines, one verb_noun a file.

Importing this package makes a worker of the process: it registers the coders of what travels, and relaxes garbage
collection.
"""

import gc

from transforms.coders import register_coders

register_coders()

# Look for cycles rarely: calls and rows form none, and looking through millions of them took half of a run. It stands
# here because no local worker process is told of Beam's --beam_plugins.
gc.freeze()
gc.set_threshold(200_000, 50, 100)
