"""The collector, where calls and webhooks come in, and the Connections page, where people see what became of them."""
