"""A plug-in whose dependency is not installed."""

raise ImportError("needs the package nobody_has_this")
