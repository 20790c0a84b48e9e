"""What Pub/Sub's topics and subscriptions are called: https://cloud.google.com/pubsub/docs/pubsub-basics."""


def check_pubsub_name(name: str, kind: str) -> None:
    """Raise `ValueError` unless it has the form projects/PROJECT/KIND/NAME; `kind` is `topics` or `subscriptions`."""
    parts = name.split("/")
    if len(parts) != 4 or parts[0] != "projects" or parts[2] != kind or not all(parts):
        raise ValueError(f"{name!r} is not of the form projects/PROJECT/{kind}/NAME")
