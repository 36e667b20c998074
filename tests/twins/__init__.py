"""Twins: each injected fault beside the real failure that it stands for, met by the same code of a worker."""
