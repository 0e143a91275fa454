"""Audio decoded: files counted before a decoder reads them, and one mono waveform."""
