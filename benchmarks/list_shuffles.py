"""Where a job moves data between workers: its shuffles, as they stand in the pipeline's proto. Nothing is run."""

import re
from enum import StrEnum
from typing import Any, NamedTuple

from apache_beam.portability.api import beam_runner_api_pb2

_GROUP, _COMBINE = "beam:transform:group_by_key:v1", "beam:transform:combine_per_key:v1"
_PARDO = "beam:transform:pardo:v1"

# What Beam appends to the name that a step was given.
_BEAMS_SUFFIX = re.compile(r"/(ParDo\(\w+\)|(ReshufflePerKey/)?GroupByKey)$")


class Kind(StrEnum):
    """Why a step shuffles."""

    GROUP = "group"
    """GroupByKey, also the one inside a Reshuffle."""
    COMBINE = "combine"
    STATE = "state"
    """A stateful step: each key is brought to one worker."""


class Shuffle(NamedTuple):
    """A step that what comes in is shuffled for."""

    step: str
    kind: Kind


def list_shuffles(proto: Any) -> list[Shuffle]:
    """The shuffles of a pipeline's proto, in the order of their names; what is inside a combine is the combine's."""
    found = []
    transforms = proto.components.transforms
    combines = {each.unique_name for each in transforms.values() if each.spec.urn == _COMBINE}
    for transform in transforms.values():
        if transform.spec.urn == _COMBINE:
            found.append(Shuffle(short_name(transform.unique_name), Kind.COMBINE))
        elif transform.spec.urn == _GROUP and transform.unique_name.rpartition("/")[0] not in combines:
            found.append(Shuffle(short_name(transform.unique_name), Kind.GROUP))
        elif transform.spec.urn == _PARDO and _has_state(transform):
            found.append(Shuffle(short_name(transform.unique_name), Kind.STATE))
    return sorted(found)


def short_name(unique_name: str) -> str:
    """The name that a step was given, without what Beam appends."""
    return _BEAMS_SUFFIX.sub("", unique_name)


def _has_state(transform: Any) -> bool:
    payload = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload)
    return bool(payload.state_specs or payload.timer_family_specs)
