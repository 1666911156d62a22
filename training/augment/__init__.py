"""What a camera and a ward add: light, exposure, occluders, hands, crops."""
