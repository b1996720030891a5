"""Instruments as a lab has them in Python: plain code that knows nothing of Rust, nor of remote objects."""

import csv
import statistics


class Multimeter:
    """A multimeter with eight channels, simulated."""

    def __init__(self, name):
        self.name = name
        self.gain = 1.0
        self.readings = []

    def measure(self, channel):
        """Measures a channel, in volts."""
        if not 0 <= channel < 8:
            raise IndexError(f"{self.name} has no channel {channel}")
        volts = self.gain * (channel + 0.25)
        self.readings.append((channel, volts))
        return volts

    def sweep(self, channels, on_reading=None):
        """Measures some channels, and tells of each as it goes."""
        for channel in channels:
            volts = self.measure(channel)
            print(f"{self.name}: channel {channel} is done")
            if on_reading is not None:
                on_reading(channel, volts)
        return self.readings[-len(channels):]

    def summary(self):
        """What was measured so far."""
        volts = [volts for _, volts in self.readings]
        return {"count": len(volts), "mean": statistics.mean(volts), "largest": max(volts)}

    def save(self, path):
        """Writes what was measured to a file."""
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows(self.readings)
