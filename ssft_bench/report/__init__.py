"""`ssft-bench report`: all finished runs on one offline HTML page."""
