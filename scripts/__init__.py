"""What people run: the demo, the tables, the local cloud. Not shipped."""
