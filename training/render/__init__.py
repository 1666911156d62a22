"""From a face to a picture: scene, raster, light, skin, hair."""
