"""The programs of the data plane, packet by packet and with real traffic."""
