"""``dainv-bench report``: results as a document with tables and figures."""
