"""Videos decoded: which frames are kept, and the frames."""
