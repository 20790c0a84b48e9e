"""Beam's options, without parsing them hundreds of times."""

from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions


class CachedOptions(PipelineOptions):
    """Beam's options, each group of which is parsed once.

    Beam asks for a group at each step and each pair of types that it compares, some hundred times a pipeline, and
    parses all flags again each time: a fifth to a third of what a job of ten lines takes after the imports.
    """

    def view_as(self, cls: Any) -> Any:
        """The group; all groups of these options share what is set, so that one of each will do."""
        views = vars(self).setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]

    def __getstate__(self) -> dict[str, Any]:
        """Without the groups: a copy's share what is set in the copy, and Beam leaves out what workers must not see."""
        return {name: value for name, value in super().__getstate__().items() if name != "_views"}
