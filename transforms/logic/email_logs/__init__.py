"""From the logs of email providers, and our own, to `LogLine`s; a module for each shape that is read."""
