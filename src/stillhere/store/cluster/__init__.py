"""A store that many nodes share: the node's procedure, whatever engine keeps the records."""
