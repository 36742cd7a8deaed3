"""``dainv-bench compare``: what changed from one result to another, beyond noise."""
