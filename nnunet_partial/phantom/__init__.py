"""Simulate echocardiography: anatomy, image formation and the files of public datasets."""
