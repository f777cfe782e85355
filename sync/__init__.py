"""Keeping HIS and 160 in step without losing anything: commands, capture, outbox, delivery, the books."""
