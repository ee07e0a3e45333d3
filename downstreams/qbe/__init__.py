"""Query-by-example spoken term detection."""
