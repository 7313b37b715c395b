"""The ground-truth pages' own index: what every region and object of a comparison is."""
