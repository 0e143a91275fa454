"""Pictures of what processors make of media: patches, spectrograms, contact sheets. Needs matplotlib and librosa."""
