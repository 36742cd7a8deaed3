"""The paper's table and figures again: its recipe trained over seeds, its numbers beside ours, a verdict a claim."""
