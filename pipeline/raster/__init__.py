"""The raster wing: scenes opened safely, pixels and validity read on the scene's grid."""
