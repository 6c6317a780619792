"""Building blocks with the names of MinkowskiEngine.modules."""
