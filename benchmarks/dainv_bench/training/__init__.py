"""The whole step of ``dainv train``, augmentation included, eager and recorded, by precision."""
